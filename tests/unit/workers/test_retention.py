"""How jobs are forgotten: in bounded steps, after their time, and only those that have ended."""

import pytest
from builders import a_generation_spec

from aigc_core.clock import FixedClock
from aigc_core.jobs.ledger import PASS_MAX
from aigc_core.jobs.memory_ledger import MemoryLedger
from aigc_core.jobs.records import ChunkReport
from aigc_core.jobs.states import JobKind, JobState
from workers.maintenance import prune_once

DAY = 86_400.0


class World:
    def __init__(self, jobs: int) -> None:
        self.clock = FixedClock()
        self.ledger = MemoryLedger(self.clock)
        for number in range(jobs):
            self.ledger.submit(f"g{number}", a_generation_spec(count=64), idempotency_key=f"g{number}")
        while (lease := self.ledger.claim(JobKind.GENERATION, worker="w", lease_seconds=60)) is not None:
            final = JobState.COMPLETED if lease.chunk < 0 else None
            self.ledger.complete(lease, ChunkReport(completed=0 if final else 64, final_state=final))
        self.ledger.submit("waits", a_generation_spec(count=64), idempotency_key="waits")

    def names(self) -> list[str]:
        return [job.id for job in self.ledger.jobs(count_max=10_000)]


def test_a_job_is_forgotten_after_its_days_and_one_that_has_not_ended_never_is() -> None:
    world = World(3)
    world.clock.advance(90 * DAY - 1)
    assert prune_once(world.ledger, keep_days=90) == 0
    world.clock.advance(2)
    assert prune_once(world.ledger, keep_days=90) == 3
    assert world.names() == ["waits"]


def test_zero_days_keep_every_job_for_ever() -> None:
    world = World(1)
    world.clock.advance(10_000 * DAY)
    assert prune_once(world.ledger, keep_days=0) == 0


class ManyOld(MemoryLedger):
    """Has so many jobs to forget, and forgets as many at a time as the real ones."""

    left = 2 * PASS_MAX + 50

    def prune(self, *, keep_seconds: float) -> list[str]:
        step = min(self.left, PASS_MAX)
        self.left -= step
        return ["job"] * step


def test_a_tick_does_so_many_steps_and_the_next_one_goes_on() -> None:
    ledger = ManyOld(FixedClock())
    assert prune_once(ledger, keep_days=1, passes_max=2) == 2 * PASS_MAX
    assert prune_once(ledger, keep_days=1, passes_max=2) == 50


@pytest.mark.parametrize(("days", "there"), [("90", True), ("0", False)])
def test_the_tick_is_sent_unless_jobs_are_kept_for_ever(monkeypatch: pytest.MonkeyPatch, days: str, there: bool) -> None:
    monkeypatch.setenv("AIGC_KEEP_JOBS_DAYS", days)
    from workers import lifecycle, schedule

    lifecycle.runtime.cache_clear()
    try:
        assert ("prune" in schedule.beat_table()) is there
        assert "webhooks" in schedule.beat_table()
    finally:
        lifecycle.runtime.cache_clear()
