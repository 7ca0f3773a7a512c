"""The promise of the ledger: the record of jobs, chunks and leases. It is the truth; broker messages are hints.

Every move is atomic, and judged by the ledger's own clock. A lease that has expired or was given away can write nothing:
its moves answer False or LOST. An unreachable ledger raises `Unavailable`.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from aigc_core.jobs.records import ChunkReport, Completion, Event, Job, Lease, Repair, Spec
from aigc_core.jobs.states import LeaseState

#: Attempts of one chunk that may fail by an error before it is discarded.
ERRORS_MAX = 3

#: Attempts of one chunk that may vanish with their worker before it is discarded: a lost worker is rarely the chunk's fault.
LOSSES_MAX = 5

#: Chunks of one job that may be leased or ticketed at once; bounds what a job of any size costs the broker.
WINDOW = 32

#: Without any sign of a job's tickets for this long, and fewer messages in the broker than tickets out, they count as lost.
TICKET_SECONDS = 10.0


class Ledger(Protocol):
    """Moves first, then reads."""

    def submit(self, job_id: str, spec: Spec, *, idempotency_key: str) -> tuple[str, int]:
        """Record a job; (its id, tickets to publish). A known idempotency key gives the first job's id and 0 tickets."""
        ...

    def claim(self, job_id: str, *, worker: str, lease_seconds: float) -> Lease | None:
        """Use up one ticket: the next chunk (or the finalising) under a new lease, or None when there is nothing to do."""
        ...

    def renew(self, lease: Lease, *, lease_seconds: float) -> LeaseState:
        """Hold the lease for `lease_seconds` from now, if it is still held."""
        ...

    def complete(self, lease: Lease, report: ChunkReport) -> Completion:
        """Commit a chunk once, or end the job when the lease is that of its finalising."""
        ...

    def fail(self, lease: Lease, error: str, *, delay_seconds: float, fatal: bool) -> tuple[str, bool]:
        """Record an error: ("retried" | "discarded" | "aborted" | "lost", whether to publish a ticket).

        The chunk is tried again after `delay_seconds`, until ERRORS_MAX; `fatal` ends the whole job instead.
        """
        ...

    def release(self, lease: Lease, *, delay_seconds: float, waiting_for: str) -> bool:
        """Hand the chunk back, no attempt spent, and rest the job for `delay_seconds`; whether to publish a ticket."""
        ...

    def progress(self, lease: Lease, facts: dict[str, Any]) -> None:
        """Keep the facts as the job's last progress and emit them as `training.progress`; nothing after a lost lease."""
        ...

    def cancel(self, job_id: str) -> int:
        """Ask for the job's end; tickets to publish. Chunks in work stop at their next renewal. `NotFound`."""
        ...

    def reap(self, *, queued: dict[str, int]) -> Repair:
        """Take expired leases back and find lost tickets. `queued`: messages waiting in the broker, by kind of job."""
        ...

    def emit(self, event_type: str, job_id: str, facts: dict[str, Any]) -> None:
        """Append an event to the bounded stream."""
        ...

    def claim_slot(self, schedule: str, slot: str) -> bool:
        """True for the first caller with this slot of a schedule; two beats or a clock jump give one run."""
        ...

    def job(self, job_id: str) -> Job:
        """One job; `NotFound`."""
        ...

    def jobs(self, *, count_max: int) -> list[Job]:
        """The newest jobs, newest first."""
        ...

    def events(self, *, after: str, wait_seconds: float, count_max: int = 100) -> Sequence[Event]:
        """Events after a position ("0" for the oldest kept, "$" for new ones only), waiting for one if there is none."""
        ...
