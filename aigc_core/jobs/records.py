"""What travels between the ledger, the executor and the doors: frozen records, plain facts."""

from dataclasses import dataclass, field
from typing import Any

from aigc_core.jobs.specs import GenerationSpec, TrainingSpec
from aigc_core.jobs.states import JobKind, JobState

#: The chunk number of the lease under which a job is finalised: manifest, summary, contact sheet, final state.
FINALISE = -1

Spec = GenerationSpec | TrainingSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Pictures of a job (steps for a training job have no counts here). completed + failed ≤ total."""

    total: int
    completed: int
    failed: int
    payload_bytes: int

    @property
    def open(self) -> int:
        """Not made, not given up."""
        return self.total - self.completed - self.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One order as the ledger knows it."""

    id: str
    kind: JobKind
    team: str
    lane: str
    priority: int
    state: JobState
    spec_json: str
    chunk_count: int
    chunks_done: int
    chunks_discarded: int
    chunks_running: int
    counts: Counts
    created_at: float  # seconds since 1970 UTC, by the clock of Redis
    started_at: float | None
    finished_at: float | None
    paused: bool
    stop: str  # why it takes no more chunks: cancelled, expired, aborted; empty while it does
    waiting_for: str  # what the job waits for, in words; empty when it waits for nothing
    last_error: str  # of any attempt; empty when there was none
    attempts_error: int  # attempts that failed by an error, over all chunks
    attempts_lost: int  # attempts whose worker vanished, over all chunks
    start_at: float = 0.0
    deadline_at: float = 0.0
    expires_at: float = 0.0
    progress: dict[str, Any] = field(default_factory=dict)  # the last report of a training run


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What became of an order."""

    job_id: str  # of the job that was made, or of the one that has the same idempotency key
    is_new: bool
    tickets: int  # worth publishing


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to work on one chunk of a job until `expires_at`."""

    job_id: str
    kind: JobKind
    chunk: int  # FINALISE for the job's end
    token: int  # fencing token, grows with every claim
    attempt: int  # 1-based
    expires_at: float  # seconds since 1970 UTC, by the clock of Redis
    spec_json: str
    created_at: float
    waited_seconds: float  # since the job became available, for the first chunk; 0 otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkReport:
    """What a chunk's work did: facts, counted at the edge."""

    completed: int = 0  # pictures stored
    failed: int = 0  # pictures given up
    payload_bytes: int = 0
    step_seconds: dict[str, float] = field(default_factory=dict)  # predict, encode, store: they add up to the chunk's time
    final_state: JobState | None = None  # only from finalising


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The ledger's answer to a move that ends a lease."""

    result: str  # ok, lost; of a failure also retried, discarded, aborted
    more: bool  # there is more to hand out: publish a ticket
    items_given_up: int = 0

    @property
    def accepted(self) -> bool:
        """False: the lease was lost, nothing was written."""
        return self.result != "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one ticket ended. `result` is a word of a small set: a metric label."""

    kind: JobKind
    result: str  # ok, nothing, draining, lost, cancelled, failed, retried, snoozed
    job_id: str = ""
    chunk: int | None = None
    attempt: int = 0
    model: str = ""
    report: ChunkReport | None = None
    items_given_up: int = 0
    error: str = ""
    cause: str = ""  # class of the error
    seconds: float = 0.0
    waited_seconds: float = 0.0
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What one pass of the reaper found, and how many tickets would find work."""

    expired: int  # leases taken back
    items_given_up: int
    jobs_expired: int
    claimable: dict[JobKind, int] = field(default_factory=dict)  # chunks, up to TICKETS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """Chunks of a job that were given up and are open again (or would be, in a dry run)."""

    chunks: int
    items: int
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One chunk that was given up."""

    job_id: str
    chunk: int
    fingerprint: str  # the same for failures that differ in numbers and ids only
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamLimits:
    """What a team gets; 0 stands for no limit."""

    weight: float = 1.0  # share of the pictures while several teams wait
    queued_max: int = 0  # pictures waiting or in work, over all orders
    running_max: int = 0  # chunks in work at once, of each kind of job


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """A team that has ordered, or whose limits were set."""

    name: str
    limits: TeamLimits
    queued: int  # pictures waiting or in work
    running: dict[str, int]  # chunks in work, by kind


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who steers, and why: for the audit record."""

    who: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One steering move, as it was recorded."""

    at: float
    move: str
    subject: str  # a job, a team or a worker
    by: By
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the bounded event stream."""

    id: str  # position in the stream
    type: str  # job.submitted, chunk.completed, job.completed, training.progress, model.published, …
    job_id: str
    at: float
    facts: dict[str, Any] = field(default_factory=dict)
