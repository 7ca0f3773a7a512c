"""The ledger in a process's own memory: tests, dry runs and the simulator, with any clock.

It keeps the same promises as the one in Redis, and the same contract suite holds both to them; read `lua/` beside it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aigc_core.errors import AlreadyOrdered, InvalidSpec, QuotaExceeded
from aigc_core.jobs.ledger import ERRORS_MAX, EXPIRY_SECONDS, PASS_MAX, TICKETS_MAX
from aigc_core.jobs.memory_book import HeldLease, JobRecord, MemoryBook, locked
from aigc_core.jobs.order import PRIORITY_MAX, PRIORITY_MIN, check_name, check_range
from aigc_core.jobs.plan import chunk_count
from aigc_core.jobs.records import (
    FINALISE,
    By,
    ChunkReport,
    Counts,
    Ended,
    Job,
    Lease,
    Repair,
    Retried,
    Spec,
    Submission,
    TeamLimits,
)
from aigc_core.jobs.specs import GenerationSpec, identity_of
from aigc_core.jobs.states import JobKind, JobState, LeaseState


class MemoryLedger(MemoryBook):
    """Keeps every promise of `Ledger`, for as long as the process lives."""

    @locked
    def submit(self, job_id: str, spec: Spec, *, idempotency_key: str) -> Submission:
        at = self._clock.now()
        kind = JobKind.GENERATION if isinstance(spec, GenerationSpec) else JobKind.TRAINING
        known = self._keys.get((spec.team, kind, idempotency_key))
        if known is not None:
            record = self._jobs.get(known)
            if record is not None and identity_of(record.spec) != identity_of(spec):
                raise AlreadyOrdered(f"idempotency key {idempotency_key!r} was used for another order, {known}")
            if known == job_id and record is not None:
                return Submission(job_id=known, is_new=True, tickets=record.claimable(at))
            return Submission(job_id=known, is_new=False, tickets=0)
        total = spec.count if isinstance(spec, GenerationSpec) else 1
        chunk_items = spec.chunk_items if isinstance(spec, GenerationSpec) else 1
        limits = self._team(spec.team).limits
        if limits.queued_max and self._queued(spec.team) + total > limits.queued_max:
            raise QuotaExceeded(f"team {spec.team} has {self._queued(spec.team)} waiting and may have {limits.queued_max}")
        if sum(not record.job.state.is_final for record in self._jobs.values()) >= self._jobs_max:
            raise QuotaExceeded(f"{self._jobs_max} jobs are waiting or running")
        job = Job(
            id=job_id, kind=kind, team=spec.team, lane=spec.lane, priority=spec.priority,
            state=JobState.SCHEDULED if spec.start_at > at else JobState.AVAILABLE, spec_json=spec.to_json(),
            chunk_count=chunk_count(total, chunk_items), chunks_done=0, chunks_discarded=0, chunks_running=0,
            counts=Counts(total=total, completed=0, failed=0, payload_bytes=0), created_at=at, started_at=None,
            finished_at=None, paused=False, stop="", waiting_for="", last_error="", attempts_error=0, attempts_lost=0,
            start_at=spec.start_at, deadline_at=spec.deadline_at,
            expires_at=spec.expires_at or max(at, spec.start_at) + EXPIRY_SECONDS,
        )  # fmt: skip
        record = JobRecord(job, spec, spec.rank(now=at), self._window, chunk_items, spec.start_at)
        self._jobs[job_id] = record
        self._keys[spec.team, kind, idempotency_key] = job_id
        self._emit("job.submitted", job_id, kind=kind, team=spec.team, total=total)
        self._settle(record)
        return Submission(job_id=job_id, is_new=True, tickets=record.claimable(at))

    @locked
    def claim(self, kind: JobKind, *, worker: str, lease_seconds: float) -> Lease | None:
        at = self._clock.now()
        if worker in self._draining:
            return None
        for waiting in self._jobs.values():
            if waiting.job.kind is kind:
                self._settle(waiting)
        record = self._next_job(kind, at)
        if record is None:
            return None
        chunk = self._next_chunk(record, at)
        record.token = max(record.token + 1, int(at * 1_000_000))
        attempt = sum(record.tries.get(chunk, (0, 0))) + 1
        record.leases[chunk] = HeldLease(record.token, attempt, at + lease_seconds)
        waited = 0.0
        if chunk != FINALISE and record.job.started_at is None:
            waited = at - max(record.job.created_at, record.job.start_at)
            record.set(started_at=at)
            self._emit("job.started", record.job.id, waited_seconds=waited)
        record.set(state=JobState.RUNNING)
        self._charge(record, chunk)
        self._settle(record)
        return Lease(
            job_id=record.job.id, kind=kind, chunk=chunk, token=record.token, attempt=attempt,
            expires_at=at + lease_seconds, spec_json=record.job.spec_json, created_at=record.job.created_at,
            waited_seconds=waited,
        )  # fmt: skip

    @locked
    def renew(self, lease: Lease, *, lease_seconds: float) -> LeaseState:
        record, held = self._held(lease)
        if record is None or held is None:
            return LeaseState.LOST
        held.expires_at = self._clock.now() + lease_seconds
        stopped = lease.chunk != FINALISE and record.job.stop and record.hard
        return LeaseState.CANCELLED if stopped else LeaseState.HELD

    @locked
    def complete(self, lease: Lease, report: ChunkReport) -> Ended:
        record, held = self._held(lease)
        if record is None or held is None:
            return self._lost(lease)
        self._drop(record, lease.chunk)
        record.set(waiting_for="")
        if lease.chunk == FINALISE:
            assert report.final_state is not None, "a finalising says how the job ended"
            self._finish(record, report.final_state)
        else:
            record.done.add(lease.chunk)
            record.count(completed=report.completed, failed=report.failed, payload_bytes=report.payload_bytes)
            c = record.job.counts
            self._emit("chunk.completed", lease.job_id, chunk=lease.chunk, completed=c.completed, total=c.total)
            self._settle(record)
        return self._ended(record, lease, "ok")

    @locked
    def fail(self, lease: Lease, error: str, *, fingerprint: str, delay_seconds: float, fatal: bool) -> Ended:
        record, held = self._held(lease)
        if record is None or held is None:
            return self._lost(lease)
        at, chunk = self._clock.now(), lease.chunk
        self._drop(record, chunk)
        errors, losses = record.tries.get(chunk, (0, 0))
        record.tries[chunk] = (errors + 1, losses)
        record.set(last_error=error, attempts_error=record.job.attempts_error + 1)
        facts = {"attempt": errors + 1 + losses, "error": error, "fingerprint": fingerprint}
        self._emit("chunk.failed", lease.job_id, chunk=chunk, **facts)
        result, items = "retried", 0
        if fatal or errors + 1 >= ERRORS_MAX:
            result, items = "discarded", record.items_of(chunk)
            self._discard(record, chunk, fingerprint, error)
            if fatal and chunk != FINALISE:
                result, record.hard, record.not_before = "aborted", True, 0.0
                record.set(stop="aborted")
        elif chunk == FINALISE:
            record.not_before = at + delay_seconds
        else:
            record.again[chunk] = at + delay_seconds
        self._settle(record)
        return self._ended(record, lease, result, items=items)

    @locked
    def snooze(self, lease: Lease, *, delay_seconds: float, waiting_for: str) -> Ended:
        record, held = self._held(lease)
        if record is None or held is None:
            return self._lost(lease)
        at = self._clock.now()
        self._drop(record, lease.chunk)
        if lease.chunk != FINALISE:
            record.again[lease.chunk] = at
        if delay_seconds > 0:
            record.not_before = at + delay_seconds
            if record.job.waiting_for != waiting_for:
                record.set(waiting_for=waiting_for)
                self._emit("job.waiting", lease.job_id, waiting_for=waiting_for)
        self._settle(record)
        return self._ended(record, lease, "ok")

    @locked
    def progress(self, lease: Lease, facts: dict[str, Any]) -> None:
        record, held = self._held(lease)
        if record is not None and held is not None:
            record.set(progress=facts, waiting_for="")
            self._emit("training.progress", lease.job_id, **facts)

    @locked
    def reap(self) -> Repair:
        at = self._clock.now()
        expired = items = jobs_expired = 0
        overdue = [(r, c, h) for r in self._jobs.values() for c, h in list(r.leases.items()) if h.expires_at <= at]
        for record, chunk, _ in sorted(overdue, key=lambda entry: entry[2].expires_at)[:PASS_MAX]:
            expired += 1
            items += self._expire(record, chunk, at)
            self._settle(record)
        for record in self._jobs.values():
            job = record.job
            if not job.state.is_final and not job.stop and job.expires_at <= at:
                jobs_expired += 1
                record.set(stop="expired")
                record.hard, record.not_before = True, 0.0
                self._emit("job.expired", job.id, done=len(record.done), chunk_count=job.chunk_count)
            if not job.state.is_final and 0 < job.deadline_at <= at and job.id not in self._missed:
                self._missed.add(job.id)
                self._emit("job.deadline_missed", job.id, deadline_at=job.deadline_at)
            self._settle(record)
        claimable = {
            kind: min(TICKETS_MAX, sum(self._open_to_claims(r, at) for r in self._jobs.values() if r.job.kind is kind))
            for kind in JobKind
        }
        return Repair(expired=expired, items_given_up=items, jobs_expired=jobs_expired, claimable=claimable)

    @locked
    def prune(self, *, keep_seconds: float) -> list[str]:
        cutoff = self._clock.now() - keep_seconds
        old = [i for i, r in self._jobs.items() if r.job.state.is_final and (r.job.finished_at or 0) <= cutoff][:PASS_MAX]
        for job_id in old:
            del self._jobs[job_id]
        return old

    @locked
    def restore(self, job_id: str, *, done: Sequence[range], completed: int, payload_bytes: int) -> bool:
        record = self._jobs.get(job_id)
        if record is None or record.done or record.cursor:
            return False
        record.done = {chunk for run in done for chunk in run}
        record.skip_done()
        record.count(completed=completed, payload_bytes=payload_bytes)
        self._emit("job.recovered", job_id, chunks=len(record.done), completed=completed)
        self._settle(record)
        return True

    @locked
    def recover(self, job_id: str, spec: Spec, *, done: Sequence[range], completed: int, payload_bytes: int) -> Submission:
        submission = self.submit(job_id, spec, idempotency_key=job_id)
        self.restore(job_id, done=done, completed=completed, payload_bytes=payload_bytes)
        return submission

    @locked
    def cancel(self, job_id: str, by: By, *, hard: bool = True) -> bool:
        record = self._record(job_id)
        if record.job.state.is_final:
            return False
        if not record.job.stop:
            self._note("cancel", job_id, by, record.job.state, "hard" if hard else "soft")
            record.set(stop="cancelled")
            record.hard, record.not_before = hard, 0.0
            self._emit("job.cancel_requested", job_id, hard=hard)
        elif hard and not record.hard:
            record.hard = True
            self._note("cancel", job_id, by, "soft", "hard")
        self._settle(record)
        return self._more(record.job.kind)

    @locked
    def pause(self, job_id: str, by: By) -> bool:
        return self._paused(job_id, by, paused=True)

    @locked
    def resume(self, job_id: str, by: By) -> bool:
        return self._paused(job_id, by, paused=False)

    @locked
    def prioritise(self, job_id: str, priority: int, by: By) -> bool:
        check_range(priority, "priority", PRIORITY_MIN, PRIORITY_MAX)
        record = self._record(job_id)
        if record.job.state.is_final:
            return False
        before = record.job.priority
        record.rank = replace(record.spec, priority=priority).rank(now=record.job.created_at)
        record.set(priority=priority)
        if before != priority:
            self._note("prioritise", job_id, by, str(before), str(priority))
        self._settle(record)
        return True

    @locked
    def retry(
        self, job_id: str, by: By, *, fingerprint: str = "", chunks_per_second: float = 0, dry_run: bool = False
    ) -> Retried:
        record, at = self._record(job_id), self._clock.now()
        called_off = record.job.stop in ("cancelled", "expired")
        dead = {} if called_off else record.dead
        chosen = sorted(c for c, letter in dead.items() if fingerprint in ("", letter.fingerprint))
        items = sum(map(record.items_of, chosen))
        if record.job.state.is_final and record.papers_failed and not chosen and not dry_run:
            record.papers_failed, record.not_before = False, 0.0
            record.tries.pop(FINALISE, None)
            self._note("retry", job_id, by, record.job.state, "papers")
            record.set(state=JobState.RUNNING, finished_at=None)
            self._emit("job.retried", job_id, chunks=0, items=0)
            self._settle(record)
            return Retried(chunks=0, items=0, more=self._more(record.job.kind))
        if called_off:
            raise InvalidSpec(
                f"job {job_id} was cancelled or has expired: what failed in it is not made again; order it anew"
            )
        if dry_run or not chosen:
            return Retried(chunks=len(chosen), items=items, more=False)
        for place, chunk in enumerate(chosen):
            del record.dead[chunk]
            record.tries.pop(chunk, None)
            record.again[chunk] = at + (place / chunks_per_second if chunks_per_second else 0)
        if FINALISE in record.leases:
            self._drop(record, FINALISE)
        record.tries.pop(FINALISE, None)
        record.papers_failed = False
        record.count(failed=-items)
        self._note("retry", job_id, by, record.job.state, f"{len(chosen)} chunks, {items} items")
        expires_at = record.job.expires_at if record.job.expires_at > at else at + EXPIRY_SECONDS
        record.set(state=JobState.RUNNING, stop="", paused=False, last_error="", finished_at=None, expires_at=expires_at)
        record.hard, record.not_before = False, 0.0
        self._emit("job.retried", job_id, chunks=len(chosen), items=items)
        self._settle(record)
        return Retried(chunks=len(chosen), items=items, more=self._more(record.job.kind))

    @locked
    def set_team(self, name: str, limits: TeamLimits, by: By) -> None:
        check_name(name, "team")
        check_range(limits.weight, "weight", 0.001, 1_000)
        before, self._team(name).limits = self._team(name).limits, limits
        if before != limits:
            self._note("team", name, by, str(before), str(limits))

    @locked
    def set_jobs_max(self, jobs_max: int, by: By) -> None:
        check_range(jobs_max, "jobs_max", 1, 10**9)
        before, self._jobs_max = self._jobs_max, jobs_max
        if before != jobs_max:
            self._note("limits", "jobs", by, str(before), str(jobs_max))

    @locked
    def drain(self, worker: str, by: By, *, draining: bool = True) -> None:
        before = worker in self._draining
        (self._draining.add if draining else self._draining.discard)(worker)
        if before != draining:
            self._note("drain", worker, by, str(int(before)), str(int(draining)))

    def is_draining(self, worker: str) -> bool:
        return worker in self._draining

    @locked
    def announced(self, job: Job) -> None:
        if self._unannounced.get(job.id) == job.finished_at:
            del self._unannounced[job.id]

    @locked
    def emit(self, event_type: str, job_id: str, facts: dict[str, Any]) -> None:
        self._emit(event_type, job_id, **facts)
