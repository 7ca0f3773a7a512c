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
    cancel_requested: bool
    waiting_for: str  # what the job waits for, in words; empty when it waits for nothing
    last_error: str  # of any attempt; empty when there was none
    attempts_error: int  # attempts that failed by an error, over all chunks
    attempts_lost: int  # attempts whose worker vanished, over all chunks
    progress: dict[str, Any] = field(default_factory=dict)  # the last report of a training run


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
class Completion:
    """The ledger's answer to a commit."""

    accepted: bool  # False: the lease was lost, nothing was written
    next_ticket: bool  # there is more to hand out: publish one ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one ticket ended. `result` is a word of a small set: a metric label."""

    job_id: str
    kind: JobKind | None
    result: str  # ok, nothing, lost, cancelled, failed, retried, snoozed
    chunk: int | None = None
    attempt: int = 0
    model: str = ""
    report: ChunkReport | None = None
    error: str = ""
    cause: str = ""  # class of the error
    seconds: float = 0.0
    waited_seconds: float = 0.0
    next_ticket: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What one pass of the reaper found and what has to be published because of it."""

    expired: int  # leases taken back
    tickets: dict[str, int] = field(default_factory=dict)  # job id → tickets to publish
    kinds: dict[str, JobKind] = field(default_factory=dict)  # job id → kind, for the queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the bounded event stream."""

    id: str  # position in the stream
    type: str  # job.submitted, chunk.completed, job.completed, training.progress, model.published, …
    job_id: str
    at: float
    facts: dict[str, Any] = field(default_factory=dict)
