"""A ledger over a bad network, and a bystander who knows what no move may ever do."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from world import Killed, World

from aigc_core.errors import Unavailable
from aigc_core.jobs.memory_book import HeldLease, JobRecord, TeamRecord
from aigc_core.jobs.memory_ledger import MemoryLedger
from aigc_core.jobs.records import FINALISE, By, ChunkReport, Ended, Lease
from aigc_core.jobs.states import JobKind, LeaseState


class Violation(BaseException):
    """A promise of the ledger was broken. No Exception: the executor would take it for an error of the work."""


@dataclass(slots=True)
class Seen:
    """What a bystander has seen of leases; it is rolled back with the ledger."""

    newest: dict[tuple[str, int], Lease] = field(default_factory=dict)
    ends_at: dict[Lease, float] = field(default_factory=dict)  # of leases that nobody may take away before
    ended: dict[Lease, str] = field(default_factory=dict)


def copied(value: Any) -> Any:
    """A twin that shares what is frozen, which is most of it: copying is what a history spends its time on."""
    if isinstance(value, dict):
        return {key: copied(one) for key, one in value.items()}
    if isinstance(value, list | set):
        return copy.copy(value)
    if isinstance(value, JobRecord | TeamRecord | HeldLease | Seen):
        twin = copy.copy(value)
        for one in fields(value):
            setattr(twin, one.name, copied(getattr(value, one.name)))
        return twin
    return value


class WatchedLedger:
    """The ledger as workers see it: a call may be lost before or after it had its effect, or be sent twice."""

    def __init__(self, ledger: MemoryLedger, world: World, *, faults: Callable[[], float]) -> None:
        self._ledger = ledger
        self._world = world
        self._faults = faults
        self._highest: dict[str, int] = {}  # token by job, over everything that ever was
        self.seen = Seen()

    def snapshot(self) -> tuple[dict[str, Any], Seen]:
        """All that the ledger knows."""
        known = {name: value for name, value in vars(self._ledger).items() if name not in ("_lock", "_clock")}
        return copied(known), copied(self.seen)

    def roll_back(self, saved: tuple[dict[str, Any], Seen]) -> None:
        """Forget what came after the snapshot."""
        self.seen = copied(saved[1])
        for name, value in copied(saved[0]).items():
            setattr(self._ledger, name, value)

    def claim(self, kind: JobKind, *, worker: str, lease_seconds: float) -> Lease | None:
        lease: Lease | None = self._sent(
            self._ledger.claim, kind, worker=worker, lease_seconds=lease_seconds, once=self._granted
        )
        return lease

    def renew(self, lease: Lease, *, lease_seconds: float) -> LeaseState:
        state: LeaseState = self._sent(self._ledger.renew, lease, lease_seconds=lease_seconds)
        self._judge(lease, state is not LeaseState.LOST, "renewed")
        if state is not LeaseState.LOST:
            self.seen.ends_at[lease] = self._world.clock.now() + lease_seconds
        return state

    def complete(self, lease: Lease, report: ChunkReport) -> Ended:
        return self._end("complete", lease, report)

    def fail(self, lease: Lease, error: str, **how: Any) -> Ended:
        return self._end("fail", lease, error, **how)

    def snooze(self, lease: Lease, **how: Any) -> Ended:
        return self._end("snooze", lease, **how)

    def retry(self, job_id: str, by: By) -> None:
        """The one move that may take a lease away from a worker: that of the finalising."""
        self._ledger.retry(job_id, by)
        for lease in [lease for lease in self.seen.ends_at if (lease.job_id, lease.chunk) == (job_id, FINALISE)]:
            del self.seen.ends_at[lease]

    def is_draining(self, worker: str) -> bool:
        return self._ledger.is_draining(worker)

    def _end(self, move: str, lease: Lease, *args: Any, **how: Any) -> Ended:
        def judged(ended: Ended) -> None:
            self._judge(lease, ended.accepted, move)
            if ended.accepted:
                self.seen.ended[lease] = move
                self.seen.ends_at.pop(lease, None)

        ended: Ended = self._sent(getattr(self._ledger, move), lease, *args, once=judged, **how)
        return ended

    def _judge(self, lease: Lease, accepted: bool, move: str) -> None:
        chunk, ends_at = (lease.job_id, lease.chunk), self.seen.ends_at.get(lease, 0.0)
        if accepted and lease not in self.seen.ended and self.seen.newest.get(chunk) != lease:
            raise Violation(f"{move} of the stale {lease} was taken; the newest is {self.seen.newest.get(chunk)}")
        if not accepted and ends_at > self._world.clock.now():
            raise Violation(f"{move} of {lease} was refused at {self._world.clock.now()}, it was held until {ends_at}")

    def _granted(self, lease: Lease | None) -> None:
        if lease is None:
            return
        if lease.token <= self._highest.get(lease.job_id, 0):
            raise Violation(f"{lease}: the job had token {self._highest[lease.job_id]} before")
        self._highest[lease.job_id] = lease.token
        self.seen.newest[lease.job_id, lease.chunk] = lease
        self.seen.ends_at[lease] = lease.expires_at

    def _sent(
        self, move: Callable[..., Any], *args: Any, once: Callable[[Any], None] = lambda answer: None, **how: Any
    ) -> Any:
        """Over the network: `once` sees the first answer that the ledger gave, whoever else does."""
        faults = self._faults()
        if self._world.chance(faults):
            raise Unavailable("no connection")
        answer = move(*args, **how)
        once(answer)
        if self._world.chance(faults):
            raise Killed
        if self._world.chance(faults):
            raise Unavailable("no reply")
        if move.__name__ != "claim" and self._world.chance(faults):
            repeated = move(*args, **how)
            if getattr(repeated, "result", None) != getattr(answer, "result", None):
                raise Violation(f"{move.__name__} {args} answered {answer}, then {repeated}")
        return answer
