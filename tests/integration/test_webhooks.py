"""From a job's end to a receiver, over a real Redis and real HTTP: every message arrives, under one id, with a true log."""

import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import redis
from builders import a_generation_spec, a_training_spec
from receiver import SECRET, receiving
from servers import free_port

from aigc_core.clock import SystemClock
from aigc_core.errors import NotFound
from aigc_core.jobs.records import FINALISE, ChunkReport, Spec
from aigc_core.jobs.redis_ledger import RedisLedger
from aigc_core.jobs.specs import GenerationSpec
from aigc_core.jobs.states import JobKind, JobState
from aigc_core.storage import layout
from aigc_core.storage.memory import MemoryObjectStore
from aigc_core.webhooks.announce import announce, deliver
from aigc_core.webhooks.deliveries import ATTEMPTS_MAX, PAUSES_SECONDS, Deliveries, Message
from aigc_core.webhooks.post import post

ROOT = Path(__file__).parents[2]


@dataclass
class World:
    redis: redis.Redis
    ledger: RedisLedger
    deliveries: Deliveries
    store: MemoryObjectStore

    def end(self, spec: Spec, job_id: str = "job") -> None:
        """Run a job to its end."""
        self.ledger.submit(job_id, spec, idempotency_key=job_id)
        kind = JobKind.GENERATION if isinstance(spec, GenerationSpec) else JobKind.TRAINING
        while (lease := self.ledger.claim(kind, worker="w", lease_seconds=60)) is not None:
            final = JobState.COMPLETED if lease.chunk == FINALISE else None
            self.ledger.complete(lease, ChunkReport(completed=0 if final else 128, final_state=final))

    def announce(self) -> int:
        return announce(ledger=self.ledger, store=self.store, deliveries=self.deliveries)

    def send(self) -> list[str]:
        """One pass over what is due; what came of each."""
        return [self.deliver(message) for message in self.deliveries.claim(count_max=9)]

    def deliver(self, message: Message) -> str:
        send = partial(post, allow_private=True, seconds_max=5)
        return deliver(message, deliveries=self.deliveries, secret=SECRET, post=send, clock=SystemClock())

    def pass_pauses(self) -> None:
        """Everything that waits for its next attempt is due."""
        for webhook_id in self.redis.zrange("aigc:webhooks:due", 0, -1):
            self.redis.zadd("aigc:webhooks:due", {webhook_id: 0})

    def log(self, job_id: str = "job") -> list[tuple[int, str, int]]:
        (delivery,) = self.deliveries.of_job(job_id)
        return [(attempt.number, attempt.outcome, attempt.status) for attempt in delivery.attempts]

    def state(self) -> str:
        return self.deliveries.of_job("job")[0].state


@pytest.fixture
def world(redis_client: redis.Redis) -> World:
    return World(redis_client, RedisLedger(redis_client), Deliveries(redis_client), MemoryObjectStore())


def test_the_end_of_an_order_is_told_once_and_signed(world: World) -> None:
    with receiving() as receiver:
        world.end(a_generation_spec(count=128, webhook=receiver.url))
        world.end(a_generation_spec(count=128), "silent")
        assert (world.announce(), world.announce()) == (2, 0)
        assert (world.send(), world.send()) == (["delivered"], [])
        (got,) = receiver.received
    assert got.is_genuine
    assert got.event["type"] == "job.completed"
    assert (got.event["data"]["job"], got.event["data"]["counts"]["completed"]) == ("job", 128)
    assert got.event["data"]["results"].endswith("jobs/job/results.jsonl")
    assert world.log() == [(1, "delivered", 200)]
    assert world.deliveries.of_job("silent") == []


def test_a_message_that_was_refused_comes_again_after_a_pause_under_the_same_id(world: World) -> None:
    with receiving(500, 302) as receiver:
        world.end(a_generation_spec(count=128, webhook=receiver.url))
        world.announce()
        assert world.send() == ["failed"]
        assert world.send() == []  # not yet
        (delivery,) = world.deliveries.of_job("job")
        assert delivery.next_at is not None
        assert 4 < delivery.next_at - delivery.attempts[0].at < 8
        world.pass_pauses()
        assert world.send() == ["failed"]
        world.pass_pauses()
        assert world.send() == ["delivered"]
        assert len({got.webhook_id for got in receiver.received}) == 1
        assert len({got.body for got in receiver.received}) == 1
        assert all(got.is_genuine for got in receiver.received)
    assert world.log() == [(1, "failed", 500), (2, "failed", 302), (3, "delivered", 200)]


def test_a_server_that_is_down_gets_the_message_when_it_is_back(world: World) -> None:
    port = free_port()
    world.end(a_generation_spec(count=128, webhook=f"http://127.0.0.1:{port}/hook"))
    world.announce()
    assert world.send() == ["failed"]
    assert "ConnectionRefusedError" in world.deliveries.of_job("job")[0].attempts[0].text
    with receiving(port=port) as receiver:
        world.pass_pauses()
        assert world.send() == ["delivered"]
        assert len(receiver.received) == 1


def test_after_ten_attempts_over_a_day_it_is_given_up_and_a_replay_begins_anew(world: World) -> None:
    assert ATTEMPTS_MAX == 10
    assert 20 * 3600 < sum(PAUSES_SECONDS) < 28 * 3600
    with receiving(*[503] * 11) as receiver:
        world.end(a_generation_spec(count=128, webhook=receiver.url))
        world.announce()
        outcomes = []
        for _ in range(ATTEMPTS_MAX):
            outcomes += world.send()
            world.pass_pauses()
        assert outcomes == ["failed"] * 9 + ["given_up"]
        assert (world.send(), world.state()) == ([], "given_up")
        # when
        assert world.deliveries.replay("job") == 1
        assert world.send() == ["failed"]
        world.pass_pauses()
        assert (world.send(), world.state()) == (["delivered"], "delivered")
        assert len({got.webhook_id for got in receiver.received}) == 1
    assert [number for number, *_ in world.log()] == list(range(1, 13))


def test_a_receiver_that_wants_no_more_is_left_alone(world: World) -> None:
    with receiving(410) as receiver:
        world.end(a_generation_spec(count=128, webhook=receiver.url))
        world.announce()
        assert (world.send(), world.state()) == (["given_up"], "given_up")


def test_what_was_delivered_can_be_replayed_and_what_is_unknown_cannot(world: World) -> None:
    with receiving() as receiver:
        world.end(a_generation_spec(count=128, webhook=receiver.url))
        world.announce()
        world.send()
        world.deliveries.replay("job")
        assert world.send() == ["delivered"]
        assert len({got.webhook_id for got in receiver.received}) == 1
    with pytest.raises(NotFound):
        world.deliveries.replay("other")


KILLED_AFTER_THE_REQUEST = """
import os, signal, sys
from aigc_core.clock import SystemClock
from aigc_core.jobs.redis_ledger import connect
from aigc_core.webhooks.announce import deliver
from aigc_core.webhooks.deliveries import Deliveries
from aigc_core.webhooks.post import post

def send(url, body, headers):
    post(url, body, headers, allow_private=True)
    os.kill(os.getpid(), signal.SIGKILL)

deliveries = Deliveries(connect(sys.argv[1]))
(message,) = deliveries.claim(count_max=1)
deliver(message, deliveries=deliveries, secret=sys.argv[2], post=send, clock=SystemClock())
"""


def test_a_worker_that_is_killed_between_request_and_log_costs_a_second_request_under_the_same_id(
    world: World, redis_urls: dict[str, str]
) -> None:
    with receiving() as receiver:
        world.end(a_generation_spec(count=128, webhook=receiver.url))
        world.announce()
        command = [sys.executable, "-c", KILLED_AFTER_THE_REQUEST, redis_urls["wheel"], SECRET]
        assert subprocess.run(command, cwd=ROOT).returncode == -9
        assert world.send() == []  # held for the one that may still be at it
        assert world.log() == [(1, "sending", 0)]
        world.pass_pauses()
        assert world.send() == ["delivered"]
        first, second = receiver.received
        assert (first.webhook_id, first.body) == (second.webhook_id, second.body)
    assert world.log() == [(1, "sending", 0), (2, "delivered", 200)]


def test_a_pass_that_dies_between_noting_and_saying_so_notes_nothing_twice(world: World) -> None:
    world.end(a_generation_spec(count=128, webhook="http://127.0.0.1:1/"))

    class Dies(RedisLedger):
        def announced(self, job: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        announce(ledger=Dies(world.redis), store=world.store, deliveries=world.deliveries)
    assert world.announce() == 1
    assert len(world.deliveries.claim(count_max=9)) == 1
    assert len(world.deliveries.of_job("job")) == 1


def test_a_late_answer_of_an_overtaken_attempt_changes_only_its_own_line(world: World) -> None:
    with receiving(200, 500) as receiver:
        world.end(a_generation_spec(count=128, webhook=receiver.url))
        world.announce()
        (slow,) = world.deliveries.claim(count_max=1, hold_seconds=0)
        assert world.send() == ["delivered"]
        assert world.deliver(slow) == "failed"
        assert (world.state(), world.send()) == ("delivered", [])
    assert world.log() == [(1, "failed", 500), (2, "delivered", 200)]


def test_a_late_failure_of_an_overtaken_attempt_leaves_the_newer_one_its_time(world: World) -> None:
    with receiving(500) as receiver:
        world.end(a_generation_spec(count=128, webhook=receiver.url))
        world.announce()
        (slow,) = world.deliveries.claim(count_max=1, hold_seconds=0)
        (_,) = world.deliveries.claim(count_max=1, hold_seconds=50)
        held_until = world.deliveries.of_job("job")[0].next_at
        assert world.deliver(slow) == "failed"
        assert world.deliveries.of_job("job")[0].next_at == held_until


def test_how_a_training_ended_is_written_to_s3(world: World) -> None:
    world.end(a_training_spec(), "t1")
    world.announce()
    assert b'"state": "completed"' in world.store.get(layout.summary_key("t1"))
