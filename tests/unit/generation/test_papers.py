"""What a job has to show while it runs, after its end, and after the ledger has forgotten it."""

import json
from typing import Any

import numpy as np
import pytest
from builders import a_generation_spec, a_training_spec

from aigc_core.clock import FixedClock
from aigc_core.errors import InvalidSpec, LeaseLost, NotFound
from aigc_core.generation.encode import encode
from aigc_core.generation.finalise import finalise
from aigc_core.generation.papers import Papers
from aigc_core.jobs.memory_ledger import MemoryLedger
from aigc_core.jobs.plan import chunk_range
from aigc_core.jobs.records import FINALISE, By, ChunkReport, Lease
from aigc_core.jobs.states import JobKind
from aigc_core.storage import layout
from aigc_core.storage.memory import MemoryObjectStore

SPEC = a_generation_spec(count=300)  # chunks of 128, 128 and 44
PICTURE = encode(np.zeros((8, 8, 1), np.uint8), "png")


class Shop:
    """A ledger and a store with job "job"; chunks are made by hand."""

    def __init__(self) -> None:
        self.clock = FixedClock()
        self.ledger, self.store = MemoryLedger(self.clock), MemoryObjectStore()
        self.store.put("picture", PICTURE)
        self.ledger.submit("job", SPEC, idempotency_key="job")

    def claim(self) -> Lease:
        lease = self.ledger.claim(JobKind.GENERATION, worker="w", lease_seconds=60)
        assert lease is not None
        return lease

    def write_part(self, chunk: int) -> int:
        facts = {"key": "picture", "bytes": len(PICTURE)}
        lines = [json.dumps({"index": index} | facts) for index in chunk_range(SPEC, chunk)]
        self.store.put(layout.part_key("job", chunk), "".join(f"{line}\n" for line in lines).encode())
        return len(lines)

    def make(self) -> None:
        lease = self.claim()
        self.ledger.complete(lease, ChunkReport(completed=self.write_part(lease.chunk), payload_bytes=10))

    def give_up(self) -> None:
        for _ in range(3):
            self.ledger.fail(self.claim(), "no picture", fingerprint="f00d", delay_seconds=0, fatal=False)

    def finalise(self) -> None:
        lease = self.claim()
        assert lease.chunk == FINALISE
        report = finalise(self.ledger.job("job"), ledger=self.ledger, store=self.store, clock=self.clock)
        self.ledger.complete(lease, report)

    def papers(self) -> Papers:
        return Papers("job", ledger=self.ledger, store=self.store)

    def indexes(self) -> list[int]:
        return [json.loads(line)["index"] for part in self.papers().results() for line in part.splitlines()]

    def errors(self) -> list[dict[str, Any]]:
        return [json.loads(line) for part in self.papers().errors() for line in part.splitlines()]

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = json.loads(self.papers().summary())["counts"]
        assert counts["completed"] + counts["failed"] + counts["not_made"] == counts["total"] == 300
        return counts


def test_a_job_that_has_just_begun_has_empty_papers_that_add_up() -> None:
    shop = Shop()
    assert (shop.indexes(), shop.errors(), shop.counts()["not_made"]) == ([], [], 300)


def test_a_running_job_shows_committed_chunks_and_what_was_given_up() -> None:
    # given one chunk done, one given up, and one written by a worker that died before its commit
    shop = Shop()
    shop.make()
    shop.give_up()
    shop.write_part(2)
    # then the papers tell of the first two
    assert shop.indexes() == list(range(128))
    assert shop.errors() == [{"chunk": 1, "first_index": 128, "count": 128, "code": "f00d", "error": "no picture"}]
    assert (shop.counts()["completed"], shop.counts()["failed"], shop.counts()["not_made"]) == (128, 128, 44)
    assert json.loads(shop.papers().summary())["state"] == "running"


def test_an_ended_job_shows_the_stored_papers_and_still_does_when_the_ledger_has_forgotten_it() -> None:
    shop = Shop()
    shop.make()
    shop.give_up()
    shop.ledger.cancel("job", By(who="tester"))
    shop.finalise()
    ended = (shop.indexes(), shop.errors(), shop.papers().summary())
    assert ended[0] == list(range(128))
    assert [(error["chunk"], error["code"]) for error in ended[1]] == [(1, "f00d"), (2, "cancelled")]
    assert json.loads(ended[2])["state"] == "cancelled"
    assert shop.counts()["not_made"] == 44
    assert b"".join(shop.papers().results()) == shop.store.get(layout.results_key("job"))
    # when the ledger forgets the job
    shop.clock.advance(100)
    assert shop.ledger.prune(keep_seconds=1) == ["job"]
    # then S3 has the same
    assert (shop.indexes(), shop.errors(), shop.papers().summary()) == ended


def test_an_unknown_job_and_a_training_have_no_papers() -> None:
    shop = Shop()
    with pytest.raises(NotFound, match="aigc jobs"):
        Papers("other", ledger=shop.ledger, store=shop.store)
    shop.ledger.submit("t", a_training_spec(), idempotency_key="t")
    with pytest.raises(InvalidSpec, match="training"):
        Papers("t", ledger=shop.ledger, store=shop.store)


def test_papers_are_not_written_any_more_once_the_lease_is_lost() -> None:
    shop = Shop()
    shop.make()
    puts = shop.store.put_count

    def lost() -> None:
        raise LeaseLost("somebody else")

    with pytest.raises(LeaseLost):
        finalise(shop.ledger.job("job"), ledger=shop.ledger, store=shop.store, clock=shop.clock, check=lost)
    assert shop.store.put_count == puts


def test_a_picture_that_cannot_be_shown_does_not_keep_a_job_from_its_end() -> None:
    shop = Shop()
    shop.make()
    shop.store.delete(["picture"])
    finalise(shop.ledger.job("job"), ledger=shop.ledger, store=shop.store, clock=shop.clock)
    assert shop.store.exists(layout.summary_key("job"))
    assert not shop.store.exists(layout.contact_sheet_key("job"))
