"""When the watchdog ends a worker, when it does not, and what a drain does: with a clock that the test moves on."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from builders import a_generation_spec

from aigc_core.clock import FixedClock, SystemClock
from aigc_core.errors import Cancelled, Unavailable
from aigc_core.jobs.memory_ledger import MemoryLedger
from aigc_core.jobs.records import By, Lease
from aigc_core.jobs.states import JobKind
from workers.in_work import InWork
from workers.watchdog import BEAT_SECONDS_MAX, EXIT_STUCK, WORK_SECONDS_MAX, BeatWatchdog, Watchdog

BY = By(who="tester")


class Consumer:
    """Celery's consumer, with a loop that turns when it may."""

    def __init__(self) -> None:
        self.turns, self.queues = True, {"generation", "maintenance"}

    def call_soon(self, callback: Callable[..., Any], *args: object) -> None:
        if self.turns:
            callback(*args)

    def cancel_task_queue(self, queue: str) -> None:
        self.queues.remove(queue)

    def add_task_queue(self, queue: str) -> None:
        self.queues.add(queue)


class World:
    def __init__(self) -> None:
        self.clock, self.consumer, self.left = FixedClock(), Consumer(), list[int]()
        self.in_work = InWork(self.clock)
        self.ledger = MemoryLedger(self.clock)
        self.messages = {"generation": 0, "training": 0, "maintenance": 0}
        self.dog = Watchdog(
            JobKind.GENERATION,
            ("generation", "maintenance"),
            ledger=self.ledger,
            worker="w",
            in_work=self.in_work,
            clock=self.clock,
            stuck_seconds=120,
            messages=lambda: self.messages,
            leave=self.left.append,
        )

    def order(self) -> None:
        self.ledger.submit("job", a_generation_spec(), idempotency_key="job")
        self.messages["generation"] = 8

    def wait(self, seconds: int) -> list[int]:
        """Look once a second meanwhile; the exit codes."""
        for _ in range(seconds):
            self.clock.advance(1)
            self.dog.look(self.consumer)
        return self.left


@pytest.fixture
def world() -> World:
    return World()


def test_a_worker_that_takes_no_ticket_although_there_is_work_ends(world: World) -> None:
    world.order()
    assert world.wait(120) == []
    assert world.wait(1) == [EXIT_STUCK]


def test_a_ticket_begins_the_time_anew(world: World) -> None:
    world.order()
    world.wait(100)
    world.dog.taken()
    assert world.wait(100) == []


@pytest.mark.parametrize("missing", ["work", "tickets"])
def test_without_work_or_without_tickets_nobody_is_stuck(world: World, missing: str) -> None:
    world.order()
    if missing == "work":
        world.ledger.pause("job", BY)
    else:
        world.messages["generation"] = 0
    assert world.wait(500) == []


def test_a_worker_that_is_at_work_is_not_stuck_however_long_that_takes(world: World) -> None:
    world.order()
    lease = world.ledger.claim(JobKind.GENERATION, worker="w", lease_seconds=9999)
    assert lease is not None
    with world.in_work.lease(lease):
        assert world.wait(500) == []


def test_a_chunk_that_hangs_ends_the_worker_and_counts_as_lost(world: World) -> None:
    world.order()
    lease = world.ledger.claim(JobKind.GENERATION, worker="w", lease_seconds=9999)
    assert lease is not None
    with world.in_work.lease(lease):
        assert world.wait(int(WORK_SECONDS_MAX)) == []
        assert world.wait(1) == [EXIT_STUCK]
    assert world.ledger.job("job").chunks_running == 1


def test_a_loop_that_does_not_turn_ends_the_worker_and_its_work_is_handed_back(world: World) -> None:
    world.order()
    lease = world.ledger.claim(JobKind.GENERATION, worker="w", lease_seconds=9999)
    assert lease is not None
    world.wait(10)
    with world.in_work.lease(lease):
        world.consumer.turns = False
        assert world.wait(120) == []
        assert world.wait(1) == [EXIT_STUCK]
    assert world.ledger.job("job").chunks_running == 0
    again = world.ledger.claim(JobKind.GENERATION, worker="v", lease_seconds=60)
    assert again is not None
    assert (again.chunk, again.attempt) == (lease.chunk, 1)


def test_while_redis_is_away_nobody_is_stuck(world: World) -> None:
    world.order()

    def away(worker: str) -> bool:
        raise Unavailable("Redis")

    world.consumer.turns = False
    world.ledger.is_draining = away  # type: ignore[method-assign]
    assert world.wait(500) == []


def test_a_drained_worker_stops_consuming_until_the_drain_is_undone(world: World) -> None:
    world.order()
    world.ledger.drain("other", BY)
    world.wait(1)
    assert world.consumer.queues == {"generation", "maintenance"}
    world.ledger.drain("w", BY)
    assert world.wait(500) == []
    assert world.consumer.queues == set()
    world.ledger.drain("w", BY, draining=False)
    world.wait(1)
    assert world.consumer.queues == {"generation", "maintenance"}


def test_what_is_in_work_is_waited_for_and_then_asked_to_stop() -> None:
    in_work, begun, over = InWork(SystemClock()), threading.Event(), threading.Event()

    def work() -> None:
        with in_work.lease(a_lease()):
            begun.set()
            over.wait(5)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait(5)
    in_work.check()
    assert (in_work.wait_until_done(0.01), in_work.count) == (False, 1)
    in_work.stop()
    with pytest.raises(Cancelled):
        in_work.check()
    over.set()
    assert in_work.wait_until_done(5)
    thread.join()


def a_lease() -> Lease:
    return Lease(
        job_id="job", kind=JobKind.GENERATION, chunk=0, token=1, attempt=1, expires_at=0, spec_json="{}", created_at=0,
        waited_seconds=0,
    )  # fmt: skip


def test_a_beat_that_stops_ticking_ends_but_not_while_redis_is_away() -> None:
    clock, left, away = FixedClock(), list[int](), threading.Event()

    def ping() -> None:
        if away.is_set():
            raise Unavailable("Redis")

    dog = BeatWatchdog(5, ping=ping, clock=clock, leave=left.append)

    def wait(seconds: int, *, ticks: bool) -> list[int]:
        for _ in range(seconds):
            clock.advance(1)
            dog.look()
            if ticks:
                dog.sent()
        return left

    assert wait(200, ticks=True) == []
    away.set()
    assert wait(200, ticks=False) == []
    away.clear()
    assert wait(int(BEAT_SECONDS_MAX), ticks=False) == []
    assert wait(1, ticks=False) == [EXIT_STUCK]
