"""From S3 back to a ledger: what is made is not made again, whatever the recovery meets."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
from builders import a_generation_spec, a_training_spec

from aigc_core.clock import SystemClock
from aigc_core.generation.finalise import finalise
from aigc_core.generation.predictor import FakePredictor
from aigc_core.generation.run_chunk import ChunkRunner
from aigc_core.jobs.execute import Heartbeat
from aigc_core.jobs.memory_ledger import MemoryLedger
from aigc_core.jobs.records import FINALISE, ChunkReport
from aigc_core.jobs.recover import Recovery, recover
from aigc_core.jobs.specs import GenerationSpec, TrainingSpec
from aigc_core.jobs.states import JobKind, JobState
from aigc_core.storage import layout
from aigc_core.storage.memory import MemoryObjectStore


class Steady:
    def check(self) -> None:
        """Go on."""


class World:
    """A store, a ledger that can be lost, and a worker."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.store, self.published = MemoryObjectStore(), set[str]()
        self._runner = ChunkRunner(predictor=FakePredictor(), store=self.store, clock=SystemClock(), threads=threads)
        self.lose_redis()

    def lose_redis(self) -> None:
        self.ledger = MemoryLedger(SystemClock())

    def submit(self, job_id: str, spec: GenerationSpec | TrainingSpec) -> None:
        self.store.put(layout.spec_key(job_id), spec.to_json().encode())
        self.ledger.submit(job_id, spec, idempotency_key=job_id)

    def work(self, chunks: int = 10**6) -> list[int]:
        """Work on up to so many leases; the chunks."""
        worked: list[int] = []
        while len(worked) < chunks and (lease := self.ledger.claim(JobKind.GENERATION, worker="w", lease_seconds=60)):
            if lease.chunk == FINALISE:
                job = self.ledger.job(lease.job_id)
                report = finalise(job, ledger=self.ledger, store=self.store, clock=SystemClock())
            else:
                report = self._runner.run(lease, cast("Heartbeat", Steady()))
            self.ledger.complete(lease, report)
            worked.append(lease.chunk)
        return worked

    def recover(self, *job_ids: str, dry_run: bool = False) -> list[Recovery]:
        def is_published(model: str, job_id: str) -> bool:
            return job_id in self.published

        made = recover(ledger=self.ledger, store=self.store, is_published=is_published, job_ids=job_ids, dry_run=dry_run)
        return list(made)


@pytest.fixture
def world() -> Iterator[World]:
    with ThreadPoolExecutor(4) as threads:
        yield World(threads)


def test_a_half_made_job_goes_on_and_no_finished_picture_is_put_again(world: World) -> None:
    # given 5 of 8 chunks made, then no Redis
    world.submit("g1", a_generation_spec(count=1_000))
    world.work(5)
    world.lose_redis()
    puts = world.store.put_count
    # when
    (recovery,) = world.recover()
    # then
    assert (recovery.result, recovery.chunks_found, recovery.chunks_missing, recovery.items) == ("recovered", 5, 3, 640)
    assert world.store.put_count == puts
    assert world.work() == [5, 6, 7, FINALISE]
    assert world.store.put_count == puts + (1_000 - 640) + 3 + 4  # pictures, parts, papers
    job = world.ledger.job("g1")
    assert (job.state, job.counts.completed) == (JobState.COMPLETED, 1_000)
    assert len(list(world.store.scan("jobs/g1/images/"))) == 1_000


def test_recovering_again_changes_nothing(world: World) -> None:
    world.submit("g1", a_generation_spec(count=1_000))
    world.work(5)
    world.lose_redis()
    world.recover()
    world.work(1)
    before = world.ledger.job("g1")
    assert [one.result for one in world.recover()] == ["known"]
    assert world.ledger.job("g1") == before


def test_a_dry_run_says_the_same_and_does_nothing(world: World) -> None:
    world.submit("g1", a_generation_spec(count=1_000))
    world.work(2)
    world.lose_redis()
    planned = world.recover(dry_run=True)
    assert world.ledger.jobs(count_max=9) == []
    assert planned == world.recover()


def test_a_finished_job_is_left_alone(world: World) -> None:
    world.submit("g1", a_generation_spec(count=200))
    world.work()
    world.lose_redis()
    assert [one.result for one in world.recover()] == ["finished"]
    assert world.ledger.jobs(count_max=9) == []


def test_a_part_that_is_not_whole_proves_nothing(world: World) -> None:
    world.submit("g1", a_generation_spec(count=400))
    world.work(3)
    first, second = (world.store.get(layout.part_key("g1", chunk)) for chunk in (0, 1))
    world.store.put(layout.part_key("g1", 0), first[: first.index(b"\n") + 1])
    world.store.put(layout.part_key("g1", 1), second.replace(b'"bytes"', b'"bites"'))
    world.store.put(layout.parts_prefix("g1") + "000000009.jsonl", second)
    world.lose_redis()
    world.recover()
    assert world.ledger.done_chunks("g1") == {2}


def test_a_training_is_ordered_again_unless_it_has_published_or_ended(world: World) -> None:
    for job_id in ("t1", "t2", "t3"):
        world.submit(job_id, a_training_spec())
    world.published.add("t1")
    world.store.put(layout.summary_key("t2"), b"{}")
    world.lose_redis()
    assert [one.result for one in world.recover()] == ["finished", "finished", "recovered"]
    lease = world.ledger.claim(JobKind.TRAINING, worker="w", lease_seconds=60)
    assert lease is not None
    assert lease.job_id == "t3"
    world.ledger.complete(lease, ChunkReport(completed=1))


def test_orders_come_back_in_the_order_in_which_they_were_given(world: World) -> None:
    for job_id in ("g2", "t1", "g3"):
        world.submit(job_id, a_training_spec() if job_id[0] == "t" else a_generation_spec())
    world.lose_redis()
    assert [one.job_id for one in world.recover()] == ["t1", "g2", "g3"]


def test_a_spec_that_is_damaged_is_told_and_the_others_are_recovered(world: World) -> None:
    world.store.put(layout.spec_key("g1"), b"no spec")
    world.submit("g2", a_generation_spec())
    world.lose_redis()
    refused, recovered = world.recover()
    assert (refused.result, recovered.result) == ("refused", "recovered")
    assert "JSON" in refused.reason


def test_only_the_jobs_that_are_named_are_recovered(world: World) -> None:
    for job_id in ("g1", "g2"):
        world.submit(job_id, a_generation_spec())
    world.lose_redis()
    assert [one.job_id for one in world.recover("g2")] == ["g2"]
    assert [job.id for job in world.ledger.jobs(count_max=9)] == ["g2"]
    assert [one.result for one in world.recover("g9")] == ["refused"]
