"""Histories of a whole installation under faults; see simulator.py. AIGC_SIMULATION_SEEDS: how many, 500 unless set."""

import os
from collections import Counter

import pytest
from simulator import simulate
from watched_ledger import Violation

from aigc_core.jobs.memory_book import HeldLease, JobRecord
from aigc_core.jobs.memory_ledger import MemoryLedger
from aigc_core.jobs.records import Lease, Repair

SEEDS = int(os.environ.get("AIGC_SIMULATION_SEEDS", "500"))
BLOCKS = 10

#: Histories within which a planted bug has to be found.
FOUND_WITHIN = 100


#: What has to have happened in every block of histories, or it proves nothing.
FAULTS = ("killed", "frozen", "rolled back", "ticket lost", "reaper died", "producer died", "ledger away", "lost", "retry")


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_history_loses_or_doubles_anything(block: int) -> None:
    events: Counter[str] = Counter()
    for seed in range(block, SEEDS, BLOCKS):
        events.update(simulate(seed).events)
    for fault in FAULTS:
        assert events[fault], f"no history has {fault!r}, only {events}"


def test_a_seed_is_a_history() -> None:
    assert simulate(7) == simulate(7)


class Unfenced(MemoryLedger):
    """Takes a move of whoever names a chunk that is in work."""

    def _held(self, lease: Lease) -> tuple[JobRecord | None, HeldLease | None]:
        record = self._jobs.get(lease.job_id)
        return record, record.leases.get(lease.chunk) if record else None


class TokenBlindReaper(MemoryLedger):
    """Marks leases that are about to expire, and takes back at its next pass whatever lease is there then."""

    marked: tuple[tuple[str, int], ...] = ()

    def reap(self) -> Repair:
        for job_id, chunk in self.marked:
            if job_id in self._jobs and chunk in self._jobs[job_id].leases:
                self._jobs[job_id].leases[chunk].expires_at = 0.0
        soon = self._clock.now() + 10
        self.marked = tuple((r.job.id, c) for r in self._jobs.values() for c, h in r.leases.items() if h.expires_at < soon)
        return super().reap()


class UncountingReaper(MemoryLedger):
    """Takes leases back and forgets that a worker was lost."""

    def _expire(self, record: JobRecord, chunk: int, at: float) -> int:
        tries = record.tries.get(chunk)
        items = super()._expire(record, chunk, at)
        if tries is None:
            record.tries.pop(chunk, None)
        else:
            record.tries[chunk] = tries
        return items


def run_histories(ledger: type[MemoryLedger]) -> None:
    for seed in range(FOUND_WITHIN):
        simulate(seed, ledger=ledger)


@pytest.mark.parametrize("ledger", [Unfenced, TokenBlindReaper, UncountingReaper])
def test_a_planted_bug_is_found_and_its_seed_told(ledger: type[MemoryLedger]) -> None:
    with pytest.raises(Violation, match=r"seed \d+, after "):
        run_histories(ledger)
