"""How one ticket ends, over the ledger in memory."""

from collections.abc import Callable

import pytest
from builders import a_generation_spec

from aigc_core.clock import FixedClock
from aigc_core.errors import Cancelled, InvalidSpec, LeaseLost, Transient, Unavailable
from aigc_core.jobs.execute import Executor, Heartbeat
from aigc_core.jobs.memory_ledger import MemoryLedger
from aigc_core.jobs.records import By, ChunkReport, Ended, Lease
from aigc_core.jobs.states import JobKind, LeaseState

BY = By(who="tester")


class AwayAtTheEnd(MemoryLedger):
    """Goes away between the claim and the commit."""

    def complete(self, lease: Lease, report: ChunkReport) -> Ended:
        raise Unavailable("Redis is away")


def an_executor(ledger: MemoryLedger, clock: FixedClock) -> Executor:
    return Executor(ledger=ledger, clock=clock, worker="w", lease_seconds=60)


def a_ledger(clock: FixedClock, kind: type[MemoryLedger] = MemoryLedger) -> MemoryLedger:
    ledger = kind(clock)
    ledger.submit("job", a_generation_spec(count=300), idempotency_key="job")
    return ledger


def raising(error: Exception) -> Callable[[Lease, Heartbeat], ChunkReport]:
    def work(lease: Lease, heartbeat: Heartbeat) -> ChunkReport:
        raise error

    return work


def test_work_that_is_done_is_committed_and_asks_for_a_ticket() -> None:
    clock = FixedClock()
    ledger = a_ledger(clock)
    outcome = an_executor(ledger, clock).execute(JobKind.GENERATION, lambda lease, _: ChunkReport(completed=128))
    assert (outcome.result, outcome.chunk, outcome.model, outcome.more) == ("ok", 0, "digits", True)
    assert ledger.job("job").counts.completed == 128


def test_nothing_to_claim_is_told_from_a_worker_that_drains() -> None:
    clock = FixedClock()
    executor = an_executor(a_ledger(clock), clock)
    assert executor.execute(JobKind.TRAINING, raising(AssertionError())).result == "nothing"
    executor.ledger.drain("w", BY)
    assert executor.execute(JobKind.GENERATION, raising(AssertionError())).result == "draining"


@pytest.mark.parametrize(
    ("error", "result", "errors_spent"),
    [
        (Transient("a bad day"), "retried", 1),
        (InvalidSpec("no such signature"), "failed", 1),
        (ZeroDivisionError(), "retried", 1),
        (Unavailable("the model server"), "snoozed", 0),
        (Cancelled("somebody"), "cancelled", 0),
        (LeaseLost("somebody else"), "lost", 0),
    ],
)
def test_an_error_ends_a_chunk_by_its_class(error: Exception, result: str, errors_spent: int) -> None:
    clock = FixedClock()
    ledger = a_ledger(clock)
    outcome = an_executor(ledger, clock).execute(JobKind.GENERATION, raising(error))
    assert outcome.result == result
    assert ledger.job("job").attempts_error == errors_spent
    assert outcome.report is None


def test_a_server_that_is_away_rests_the_job_and_says_for_what() -> None:
    clock = FixedClock()
    ledger = a_ledger(clock)
    an_executor(ledger, clock).execute(JobKind.GENERATION, raising(Unavailable("the model server at 1.2.3.4")))
    assert ledger.job("job").waiting_for == "the model server at 1.2.3.4"
    assert ledger.claim(JobKind.GENERATION, worker="w", lease_seconds=60) is None


def test_a_fatal_error_gives_the_pictures_of_its_chunk_up_and_stops_the_job() -> None:
    clock = FixedClock()
    ledger = a_ledger(clock)
    outcome = an_executor(ledger, clock).execute(JobKind.GENERATION, raising(InvalidSpec("wrong")))
    assert outcome.items_given_up == 128
    assert ledger.job("job").stop == "aborted"
    (letter,) = ledger.dead_letters("job")
    assert letter.reason == "wrong"


def test_papers_that_cannot_be_put_together_are_tried_again_whatever_the_error() -> None:
    clock = FixedClock()
    ledger = a_ledger(clock)
    executor = an_executor(ledger, clock)
    for _ in range(3):
        executor.execute(JobKind.GENERATION, lambda lease, _: ChunkReport(completed=100))
    assert executor.execute(JobKind.GENERATION, raising(InvalidSpec("a part is missing"))).result == "retried"
    assert ledger.job("job").stop == ""


def test_a_lease_that_ran_out_while_its_worker_slept_commits_nothing() -> None:
    clock = FixedClock()
    ledger = a_ledger(clock)

    def sleepy(lease: Lease, heartbeat: Heartbeat) -> ChunkReport:
        clock.advance(61)
        ledger.reap()
        return ChunkReport(completed=128)

    outcome = an_executor(ledger, clock).execute(JobKind.GENERATION, sleepy)
    assert (outcome.result, outcome.report) == ("lost", None)
    assert ledger.job("job").counts.completed == 0


def test_a_ledger_that_went_away_costs_the_lease_and_nothing_else() -> None:
    clock = FixedClock()
    ledger = a_ledger(clock, AwayAtTheEnd)
    outcome = an_executor(ledger, clock).execute(JobKind.GENERATION, lambda lease, _: ChunkReport(completed=128))
    assert outcome.result == "lost"
    clock.advance(61)
    assert ledger.reap().expired == 1


def test_a_heartbeat_stops_the_work_when_the_job_is_cancelled() -> None:
    clock = FixedClock()
    ledger = a_ledger(clock)

    def until_told(lease: Lease, heartbeat: Heartbeat) -> ChunkReport:
        ledger.cancel("job", BY)
        while not heartbeat.must_stop:
            pass
        heartbeat.check()
        raise AssertionError("check raises")

    executor = Executor(ledger=ledger, clock=clock, worker="w", lease_seconds=0.04)
    assert executor.execute(JobKind.GENERATION, until_told).result == "cancelled"
    assert ledger.job("job").chunks_running == 0


def test_a_heartbeat_gives_up_when_the_ledger_is_away_for_longer_than_the_lease() -> None:
    clock = FixedClock()
    ledger = a_ledger(clock)

    class Away(MemoryLedger):
        def renew(self, lease: Lease, *, lease_seconds: float) -> LeaseState:
            clock.advance(1)
            raise Unavailable("Redis is away")

    lease = ledger.claim(JobKind.GENERATION, worker="w", lease_seconds=0.04)
    assert lease is not None
    with Heartbeat(lease, ledger=Away(clock), clock=clock, lease_seconds=0.04) as heartbeat:
        while not heartbeat.must_stop:
            pass
        with pytest.raises(LeaseLost, match="chunk 0 of job job"):
            heartbeat.check()
