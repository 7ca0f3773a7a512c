"""What the ledger in memory keeps, how it is read, and what its moves share; the moves are in `memory_ledger`."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from aigc_core.clock import Clock
from aigc_core.errors import NotFound
from aigc_core.jobs.ledger import JOBS_MAX, LOSSES_MAX, WINDOW
from aigc_core.jobs.order import LANES
from aigc_core.jobs.records import (
    FINALISE,
    AuditEntry,
    By,
    Counts,
    DeadLetter,
    Ended,
    Event,
    Job,
    Lease,
    Spec,
    Team,
    TeamLimits,
)
from aigc_core.jobs.states import JobKind, JobState

EVENTS_MAX = 10_000
RECENT_MAX = 64

P = ParamSpec("P")
R = TypeVar("R")
Self_ = TypeVar("Self_", bound="MemoryBook")


@dataclass(slots=True)
class HeldLease:
    token: int
    attempt: int
    expires_at: float


@dataclass(slots=True)
class JobRecord:
    """A job's record, with everything about its chunks that is not yet settled."""

    job: Job
    spec: Spec
    rank: float
    window: int
    chunk_items: int
    not_before: float
    cursor: int = 0
    token: int = 0
    hard: bool = False
    papers_failed: bool = False
    leases: dict[int, HeldLease] = field(default_factory=dict)
    again: dict[int, float] = field(default_factory=dict)
    tries: dict[int, tuple[int, int]] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    dead: dict[int, DeadLetter] = field(default_factory=dict)
    recent: dict[tuple[int, int], Ended] = field(default_factory=dict)

    @property
    def ends(self) -> bool:
        return bool(self.job.stop) or len(self.done) + len(self.dead) >= self.job.chunk_count

    def items_of(self, chunk: int) -> int:
        if chunk == FINALISE:
            return 0
        return min(self.chunk_items, self.job.counts.total - chunk * self.chunk_items)

    def claimable(self, at: float) -> int:
        job = self.job
        if job.state.is_final:
            return 0
        if self.ends:
            return 0 if self.leases or job.kind is JobKind.TRAINING or self.not_before > at else 1
        if job.paused or self.not_before > at:
            return 0
        due = sum(when <= at for when in self.again.values())
        return max(0, min(due + job.chunk_count - self.cursor, self.window - len(self.leases)))

    def skip_done(self) -> None:
        """The cursor never rests on a chunk that is done (of a job that was recovered)."""
        while self.cursor in self.done:
            self.cursor += 1

    def set(self, **fields: Any) -> None:
        self.job = replace(self.job, **fields)

    def count(self, *, completed: int = 0, failed: int = 0, payload_bytes: int = 0) -> None:
        c = self.job.counts
        self.set(
            counts=Counts(
                total=c.total,
                completed=c.completed + completed,
                failed=c.failed + failed,
                payload_bytes=c.payload_bytes + payload_bytes,
            )
        )


@dataclass(slots=True)
class TeamRecord:
    limits: TeamLimits = field(default_factory=TeamLimits)
    running: dict[JobKind, int] = field(default_factory=lambda: dict.fromkeys(JobKind, 0))
    passes: dict[tuple[JobKind, str], float] = field(default_factory=dict)
    waits: set[tuple[JobKind, str]] = field(default_factory=set)  # lines in which it stands


def locked(method: Callable[Concatenate[Self_, P], R]) -> Callable[Concatenate[Self_, P], R]:
    """One move at a time, as in Redis."""

    @wraps(method)
    def call(self: Self_, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            return method(self, *args, **kwargs)

    return cast("Callable[Concatenate[Self_, P], R]", call)


class MemoryBook:
    """Jobs, teams, events and the audit record of a `MemoryLedger`."""

    def __init__(self, clock: Clock, *, window: int = WINDOW) -> None:
        self._clock = clock
        self._window = window
        self._lock = threading.RLock()
        self._unannounced: dict[str, float | None] = {}
        self._jobs: dict[str, JobRecord] = {}
        self._keys: dict[tuple[str, JobKind, str], str] = {}
        self._teams: dict[str, TeamRecord] = {}
        self._vclock: dict[tuple[JobKind, str], float] = {}
        self._jobs_max = JOBS_MAX
        self._draining: set[str] = set()
        self._missed: set[str] = set()  # jobs whose missed deadline was told
        self._events: list[Event] = []
        self._event_count = 0
        self._audit: list[AuditEntry] = []

    @locked
    def job(self, job_id: str) -> Job:
        record = self._record(job_id)
        return replace(
            record.job,
            chunks_done=len(record.done),
            chunks_discarded=len(record.dead),
            chunks_running=len(record.leases),
        )

    @locked
    def jobs(self, *, count_max: int) -> list[Job]:
        return [self.job(job_id) for job_id in list(reversed(self._jobs))[:count_max]]

    @locked
    def unannounced(self, *, count_max: int) -> list[Job]:
        ended = [self.job(job_id) for job_id in self._unannounced if job_id in self._jobs]
        return sorted((j for j in ended if j.state.is_final), key=lambda j: j.finished_at or 0.0)[:count_max]

    @locked
    def has_work(self, kind: JobKind) -> bool:
        return self._more(kind)

    @locked
    def done_chunks(self, job_id: str) -> set[int]:
        return set(self._record(job_id).done)

    @locked
    def dead_letters(self, job_id: str = "") -> list[DeadLetter]:
        records = [self._record(job_id)] if job_id else [self._jobs[key] for key in sorted(self._jobs)]
        return [record.dead[chunk] for record in records for chunk in sorted(record.dead)]

    @locked
    def teams(self) -> list[Team]:
        return [
            Team(
                name=name,
                limits=team.limits,
                queued=self._queued(name),
                running={str(k): n for k, n in team.running.items()},
            )
            for name, team in sorted(self._teams.items())
        ]

    @locked
    def audit_trail(self, *, count_max: int = 100) -> list[AuditEntry]:
        return list(reversed(self._audit))[:count_max]

    @locked
    def events(self, *, after: str, wait_seconds: float, count_max: int = 100) -> Sequence[Event]:
        """Never waits: nobody else could append meanwhile."""
        first = 10**18 if after == "$" else int(after)
        return [event for event in self._events if int(event.id) > first][:count_max]

    def last_event(self) -> str:
        """The position of the newest event; "0" when there is none."""
        return self._events[-1].id if self._events else "0"

    def _record(self, job_id: str) -> JobRecord:
        try:
            return self._jobs[job_id]
        except KeyError:
            raise NotFound(f"no job {job_id!r}; `aigc jobs` lists them") from None

    def _team(self, name: str) -> TeamRecord:
        return self._teams.setdefault(name, TeamRecord())

    def _queued(self, team: str) -> int:
        return sum(r.job.counts.open for r in self._jobs.values() if r.job.team == team and not r.job.state.is_final)

    def _held(self, lease: Lease) -> tuple[JobRecord | None, HeldLease | None]:
        record = self._jobs.get(lease.job_id)
        held = record.leases.get(lease.chunk) if record else None
        return record, held if held is not None and held.token == lease.token else None

    def _drop(self, record: JobRecord, chunk: int) -> None:
        del record.leases[chunk]
        self._team(record.job.team).running[record.job.kind] -= 1

    def _lost(self, lease: Lease) -> Ended:
        record = self._jobs.get(lease.job_id)
        known = record.recent.get((lease.chunk, lease.token)) if record else None
        return known or Ended(result="lost", more=self._more(lease.kind))

    def _ended(self, record: JobRecord, lease: Lease, result: str, *, items: int = 0) -> Ended:
        ended = Ended(result=result, more=self._more(lease.kind), items_given_up=items)
        record.recent[lease.chunk, lease.token] = ended
        while len(record.recent) > RECENT_MAX:
            del record.recent[next(iter(record.recent))]
        return ended

    def _more(self, kind: JobKind) -> bool:
        at = self._clock.now()
        return any(record.job.kind is kind and self._open_to_claims(record, at) for record in self._jobs.values())

    def _open_to_claims(self, record: JobRecord, at: float) -> int:
        team = self._team(record.job.team)
        capped = 0 < team.limits.running_max <= team.running[record.job.kind]
        return 0 if capped else record.claimable(at)

    def _next_job(self, kind: JobKind, at: float) -> JobRecord | None:
        for lane in LANES:
            ready = [
                r for r in self._jobs.values() if (r.job.kind, r.job.lane) == (kind, lane) and self._open_to_claims(r, at)
            ]
            if ready:
                names = {record.job.team for record in ready}
                team = min(names, key=lambda name: (self._team(name).passes.get((kind, lane), 0.0), name))
                return min((r for r in ready if r.job.team == team), key=lambda r: (0 if r.ends else r.rank, r.job.id))
        return None

    def _next_chunk(self, record: JobRecord, at: float) -> int:
        if record.ends:
            return FINALISE
        due = sorted((when, str(chunk), chunk) for chunk, when in record.again.items() if when <= at)
        if due:
            del record.again[due[0][2]]
            return due[0][2]
        chunk = record.cursor
        record.cursor += 1
        record.skip_done()
        return chunk

    def _charge(self, record: JobRecord, chunk: int) -> None:
        job, team = record.job, self._team(record.job.team)
        line = (job.kind, job.lane)
        self._vclock[line] = team.passes.get(line, 0.0)
        team.passes[line] = self._vclock[line] + record.items_of(chunk) / team.limits.weight
        team.running[job.kind] += 1

    def _settle(self, record: JobRecord) -> None:
        """Move time on for a job: its start, its end without a worker, and its team's place in the line."""
        job, at = record.job, self._clock.now()
        if job.kind is JobKind.TRAINING and not job.state.is_final and record.ends and not record.leases:
            called_off = JobState.CANCELLED if job.stop in ("cancelled", "expired") else JobState.FAILED
            self._finish(record, JobState.COMPLETED if record.done else called_off)
        elif job.state is JobState.SCHEDULED and record.not_before <= at:
            record.set(state=JobState.AVAILABLE)
        team, line = self._team(job.team), (job.kind, job.lane)
        same_line = (r for r in self._jobs.values() if r.job.team == job.team and (r.job.kind, r.job.lane) == line)
        waits = any(self._open_to_claims(other, at) for other in same_line)
        if waits and line not in team.waits:
            team.passes[line] = max(team.passes.get(line, 0.0), self._vclock.get(line, 0.0))
        (team.waits.add if waits else team.waits.discard)(line)

    def _finish(self, record: JobRecord, state: JobState) -> None:
        record.set(state=state, finished_at=self._clock.now())
        self._unannounced[record.job.id] = record.job.finished_at
        c = record.job.counts
        self._emit(f"job.{state}", record.job.id, completed=c.completed, failed=c.failed, stop=record.job.stop)

    def _discard(self, record: JobRecord, chunk: int, fingerprint: str, reason: str) -> None:
        if chunk == FINALISE:
            record.papers_failed = True
            self._finish(record, JobState.FAILED)
            return
        record.count(failed=record.items_of(chunk))
        job_id = record.job.id
        record.dead[chunk] = DeadLetter(job_id=job_id, chunk=chunk, fingerprint=fingerprint, reason=reason)
        self._emit("chunk.discarded", job_id, chunk=chunk, reason=reason, fingerprint=fingerprint)

    def _expire(self, record: JobRecord, chunk: int, at: float) -> int:
        """A worker vanished; the pictures that are given up because of it."""
        self._drop(record, chunk)
        errors, losses = record.tries.get(chunk, (0, 0))
        record.tries[chunk] = (errors, losses + 1)
        record.set(attempts_lost=record.job.attempts_lost + 1)
        self._emit("chunk.lost", record.job.id, chunk=chunk, losses=losses + 1)
        if losses + 1 < LOSSES_MAX:
            if chunk != FINALISE:
                record.again[chunk] = at
            return 0
        reason = f"its worker vanished {losses + 1} times"
        record.set(last_error=f"chunk {chunk}: {reason}")
        self._discard(record, chunk, "vanished", reason)
        return record.items_of(chunk) if record.job.kind is JobKind.GENERATION else 0

    def _paused(self, job_id: str, by: By, *, paused: bool) -> bool:
        record = self._record(job_id)
        if record.job.state.is_final or record.job.paused == paused:
            return False
        words = ("paused", record.job.state) if record.job.paused else (record.job.state, "paused")
        record.set(paused=paused)
        self._note("pause" if paused else "resume", job_id, by, *words)
        self._emit("job.paused" if paused else "job.resumed", job_id, by=by.who)
        self._settle(record)
        return self._more(record.job.kind)

    def _emit(self, event_type: str, job_id: str, **facts: Any) -> None:
        self._event_count += 1
        event = Event(id=str(self._event_count), type=event_type, job_id=job_id, at=self._clock.now(), facts=facts)
        self._events.append(event)
        del self._events[:-EVENTS_MAX]

    def _note(self, move: str, subject: str, by: By, before: str, after: str) -> None:
        entry = AuditEntry(at=self._clock.now(), move=move, subject=subject, by=by, before=str(before), after=str(after))
        self._audit.append(entry)
