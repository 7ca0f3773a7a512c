"""The promise of the ledger: the record of jobs, chunks and leases. It is the truth; broker messages are hints.

Every move is atomic, judged by the ledger's own clock, and safe to be sent twice: the second answer is the first one's. A
lease that has expired or was given away can write nothing: its moves answer "lost". An unreachable ledger raises
`Unavailable`.

Which job is next is decided at the claim, never before: the lane, in it the team that is furthest behind its weighted share,
of that team the job of the lowest rank (`Order.rank`).
"""

from collections.abc import Sequence
from typing import Any, Protocol

from aigc_core.jobs.records import (
    AuditEntry,
    By,
    ChunkReport,
    DeadLetter,
    Ended,
    Event,
    Job,
    Lease,
    Repair,
    Retried,
    Spec,
    Submission,
    Team,
    TeamLimits,
)
from aigc_core.jobs.states import JobKind, LeaseState

#: Attempts of one chunk that may fail by an error before it is discarded.
ERRORS_MAX = 3

#: Attempts of one chunk that may vanish with their worker before it is discarded: a lost worker is rarely the chunk's fault.
LOSSES_MAX = 5

#: Chunks of one job that may be leased at once; bounds what a job of any size costs.
WINDOW = 32

#: Tickets of one kind that are worth having in the broker: more than all workers of a large installation take up at once.
TICKETS_MAX = 256

#: Jobs that are neither final nor forgotten, at most, where nobody has set another limit.
JOBS_MAX = 100_000

#: After this long, in seconds, an order that named no other end expires: a wait needs an end, or a model server that never
#: comes back keeps its orders for ever.
EXPIRY_SECONDS = 30 * 86_400.0

#: Records that one pass of the reaper or of the retention handles: a pass is a few milliseconds of everybody's time.
PASS_MAX = 200


class Ledger(Protocol):
    """Moves of workers, then of people, then reads."""

    def submit(self, job_id: str, spec: Spec, *, idempotency_key: str) -> Submission:
        """Record a job. A known key of the same team and kind gives the first job.

        `QuotaExceeded` when it does not fit whole, `AlreadyOrdered` when the key was used for another order.
        """
        ...

    def claim(self, kind: JobKind, *, worker: str, lease_seconds: float) -> Lease | None:
        """The next chunk (or finalising) of this kind under a new lease; None when there is none, or the worker drains."""
        ...

    def renew(self, lease: Lease, *, lease_seconds: float) -> LeaseState:
        """Hold the lease for `lease_seconds` from now, if it is still held."""
        ...

    def complete(self, lease: Lease, report: ChunkReport) -> Ended:
        """Commit a chunk once, or end the job when the lease is that of its finalising."""
        ...

    def fail(self, lease: Lease, error: str, *, fingerprint: str, delay_seconds: float, fatal: bool) -> Ended:
        """Record an error: the chunk is tried again after `delay_seconds`, until ERRORS_MAX; `fatal` ends the whole job."""
        ...

    def snooze(self, lease: Lease, *, delay_seconds: float, waiting_for: str) -> Ended:
        """Hand the chunk back, no attempt spent, and rest the job for `delay_seconds`."""
        ...

    def progress(self, lease: Lease, facts: dict[str, Any]) -> None:
        """Keep the facts as the job's last progress and emit them as `training.progress`; nothing after a lost lease."""
        ...

    def reap(self) -> Repair:
        """Take expired leases back, end expired jobs, wake those whose time has come; bounded work, to be repeated."""
        ...

    def prune(self, *, keep_seconds: float) -> list[str]:
        """Forget jobs that ended longer ago than that, some at a time; their ids. What is in S3 stays."""
        ...

    def restore(self, job_id: str, *, done: Sequence[range], completed: int, payload_bytes: int) -> bool:
        """After a submit of a recovered job: count these runs of chunks as committed. False when work has begun already."""
        ...

    def recover(self, job_id: str, spec: Spec, *, done: Sequence[range], completed: int, payload_bytes: int) -> Submission:
        """`submit` under the id as its key, and `restore`, as one move: no claim comes between. Known ids stay as is."""
        ...

    def cancel(self, job_id: str, by: By, *, hard: bool = True) -> bool:
        """End a job early and keep what was made: hard stops chunks in work at their next renewal, soft finishes them.

        All moves of people answer whether a ticket would find work now, and raise `NotFound` for an unknown job.
        """
        ...

    def pause(self, job_id: str, by: By) -> bool:
        """Hand out no more chunks; those in work are finished."""
        ...

    def resume(self, job_id: str, by: By) -> bool:
        """Undo `pause`."""
        ...

    def prioritise(self, job_id: str, priority: int, by: By) -> bool:
        """Change a job's priority, and with it its rank."""
        ...

    def retry(
        self, job_id: str, by: By, *, fingerprint: str = "", chunks_per_second: float = 0, dry_run: bool = False
    ) -> Retried:
        """Open chunks that were given up again, all or those of one fingerprint; a job that had ended runs again.

        `InvalidSpec` for a job that was cancelled or has expired.
        """
        ...

    def set_team(self, name: str, limits: TeamLimits, by: By) -> None:
        """Set a team's weight and caps; they hold from the next claim and the next submit on."""
        ...

    def set_jobs_max(self, jobs_max: int, by: By) -> None:
        """Set how many live jobs the queue takes."""
        ...

    def drain(self, worker: str, by: By, *, draining: bool = True) -> None:
        """Give a worker nothing new (or something again)."""
        ...

    def is_draining(self, worker: str) -> bool:
        """Whether the worker is to be given nothing."""
        ...

    def unannounced(self, *, count_max: int) -> list[Job]:
        """Jobs that ended and were not `announced` since, the longest ago first: nothing that must follow an end is lost."""
        ...

    def announced(self, job: Job) -> None:
        """What follows from this end of the job has been done; an end that came meanwhile stays unannounced."""
        ...

    def emit(self, event_type: str, job_id: str, facts: dict[str, Any]) -> None:
        """Append an event to the bounded stream."""
        ...

    def job(self, job_id: str) -> Job:
        """One job; `NotFound`."""
        ...

    def has_work(self, kind: JobKind) -> bool:
        """Whether a claim of this kind would find something."""
        ...

    def jobs(self, *, count_max: int) -> list[Job]:
        """The newest jobs, newest first."""
        ...

    def done_chunks(self, job_id: str) -> set[int]:
        """The committed chunks of a job."""
        ...

    def dead_letters(self, job_id: str = "") -> list[DeadLetter]:
        """Chunks that were given up, of one job or of all."""
        ...

    def teams(self) -> list[Team]:
        """All teams that have ordered or whose limits were set, by name."""
        ...

    def audit_trail(self, *, count_max: int = 100) -> list[AuditEntry]:
        """The newest steering moves, newest first."""
        ...

    def events(self, *, after: str, wait_seconds: float, count_max: int = 100) -> Sequence[Event]:
        """Events after a position ("0" for the oldest kept, "$" for new ones only), waiting for one if there is none."""
        ...
