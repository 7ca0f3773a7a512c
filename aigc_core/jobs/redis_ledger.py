"""The ledger in Redis: one Lua script per move (`lua/`), so every move is atomic; reads in `redis_reads`.

redis-py sends a command again when its reply does not come. Every script is safe to be run twice: a claim is known by its
request id, a lease that has ended by its token.
"""

import json
import uuid
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, cast

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from aigc_core.errors import AlreadyOrdered, InvalidSpec, QuotaExceeded
from aigc_core.jobs.ledger import ERRORS_MAX, EXPIRY_SECONDS, LOSSES_MAX, PASS_MAX, TICKETS_MAX, WINDOW
from aigc_core.jobs.order import AGEING_SECONDS, PRIORITY_MAX, PRIORITY_MIN, check_name, check_range
from aigc_core.jobs.plan import chunk_count
from aigc_core.jobs.records import By, ChunkReport, Ended, Job, Lease, Repair, Retried, Spec, Submission, TeamLimits
from aigc_core.jobs.redis_reads import SOCKET_SECONDS, RedisReads, translated, unknown
from aigc_core.jobs.specs import GenerationSpec, identity_of
from aigc_core.jobs.states import JobKind, LeaseState

#: Longest error text kept in the ledger, in characters; the log has the rest.
ERROR_TEXT_MAX = 1_000

#: Times that a command is sent again. With SOCKET_SECONDS each, a frozen Redis is an error within 10 s.
RESENDS = 1

MOVES = (
    "submit", "claim", "renew", "complete", "fail", "snooze", "progress", "reap", "prune", "restore",
    "cancel", "pause", "prioritise", "retry", "steer", "announced",
)  # fmt: skip


def connect(url: str) -> redis.Redis:
    """A client that does not hang; it connects at its first command."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        retry=Retry(ConstantBackoff(0.1), RESENDS),
        socket_timeout=SOCKET_SECONDS,
        socket_connect_timeout=SOCKET_SECONDS,
        socket_keepalive=True,
        health_check_interval=10,
    )


class RedisLedger(RedisReads):
    """Keeps the promises of `Ledger`. The key table is the first comment of lua/prelude.lua."""

    def __init__(self, client: redis.Redis, *, window: int = WINDOW, clock_lua: str | None = None) -> None:
        """`clock_lua`: a Lua function `now()` in place of Redis' time, for tests that move time on."""
        super().__init__(client)
        self._window = window
        folder = files("aigc_core.jobs") / "lua"
        prelude = (clock_lua or (folder / "clock.lua").read_text()) + (folder / "prelude.lua").read_text()
        self._moves = {name: client.register_script(prelude + (folder / f"{name}.lua").read_text()) for name in MOVES}

    @translated
    def submit(self, job_id: str, spec: Spec, *, idempotency_key: str) -> Submission:
        return _submission(self._move("submit", *self._order(job_id, spec, idempotency_key)), idempotency_key)

    def _order(self, job_id: str, spec: Spec, idempotency_key: str) -> tuple[object, ...]:
        generation = isinstance(spec, GenerationSpec)
        chunk_items = spec.chunk_items if isinstance(spec, GenerationSpec) else 1
        total = spec.count if isinstance(spec, GenerationSpec) else 1
        return (
            job_id,
            JobKind.GENERATION if generation else JobKind.TRAINING,
            spec.team,
            spec.lane,
            spec.priority,
            spec.ageing_seconds,
            "" if spec.latest_rank is None else spec.latest_rank,
            spec.to_json(),
            idempotency_key,
            chunk_count(total, chunk_items),
            chunk_items,
            total,
            self._window,
            spec.start_at,
            spec.deadline_at,
            spec.expires_at,
            EXPIRY_SECONDS,
            identity_of(spec),
        )

    @translated
    def claim(self, kind: JobKind, *, worker: str, lease_seconds: float) -> Lease | None:
        answer = self._move("claim", kind, worker, lease_seconds, uuid.uuid4().hex)
        if answer is None:
            return None
        job_id, chunk, token, attempt, expires_at, kind_, spec_json, created_at, waited_seconds = answer
        return Lease(
            job_id=job_id,
            kind=JobKind(kind_),
            chunk=int(chunk),
            token=int(token),
            attempt=int(attempt),
            expires_at=float(expires_at),
            spec_json=spec_json,
            created_at=float(created_at),
            waited_seconds=float(waited_seconds),
        )

    @translated
    def renew(self, lease: Lease, *, lease_seconds: float) -> LeaseState:
        return LeaseState(self._move("renew", lease.job_id, lease.chunk, lease.token, lease_seconds))

    @translated
    def complete(self, lease: Lease, report: ChunkReport) -> Ended:
        counts = (report.completed, report.failed, report.payload_bytes, report.final_state or "")
        accepted, more = self._move("complete", lease.job_id, lease.chunk, lease.token, *counts)
        return Ended(result="ok" if accepted else "lost", more=bool(more))

    @translated
    def fail(self, lease: Lease, error: str, *, fingerprint: str, delay_seconds: float, fatal: bool) -> Ended:
        what = (error[:ERROR_TEXT_MAX], fingerprint, delay_seconds, int(fatal), ERRORS_MAX)
        result, items, more = self._move("fail", lease.job_id, lease.chunk, lease.token, *what)
        return Ended(result=result, more=bool(more), items_given_up=int(items))

    @translated
    def snooze(self, lease: Lease, *, delay_seconds: float, waiting_for: str) -> Ended:
        text = waiting_for[:ERROR_TEXT_MAX]
        accepted, more = self._move("snooze", lease.job_id, lease.chunk, lease.token, delay_seconds, text)
        return Ended(result="ok" if accepted else "lost", more=bool(more))

    @translated
    def progress(self, lease: Lease, facts: dict[str, Any]) -> None:
        self._move("progress", lease.job_id, lease.chunk, lease.token, json.dumps(facts))

    @translated
    def reap(self) -> Repair:
        expired, items, ended, *claimable = self._move("reap", LOSSES_MAX, PASS_MAX, TICKETS_MAX, *JobKind)
        counts = dict(zip(JobKind, map(int, claimable), strict=True))
        return Repair(expired=int(expired), items_given_up=int(items), jobs_expired=int(ended), claimable=counts)

    @translated
    def prune(self, *, keep_seconds: float) -> list[str]:
        return list(self._move("prune", keep_seconds, PASS_MAX))

    @translated
    def restore(self, job_id: str, *, done: Sequence[range], completed: int, payload_bytes: int) -> bool:
        return bool(self._move("restore", job_id, _runs(done), completed, payload_bytes))

    @translated
    def recover(self, job_id: str, spec: Spec, *, done: Sequence[range], completed: int, payload_bytes: int) -> Submission:
        with self._redis.pipeline(transaction=True) as both:  # scripts of one transaction: nobody's claim comes between
            self._moves["submit"](args=cast("Any", list(self._order(job_id, spec, job_id))), client=both)
            what = (job_id, _runs(done), completed, payload_bytes)
            self._moves["restore"](args=cast("Any", list(what)), client=both)
            return _submission(both.execute()[0], job_id)

    @translated
    def announced(self, job: Job) -> None:
        self._move("announced", job.id, repr(job.finished_at))

    def cancel(self, job_id: str, by: By, *, hard: bool = True) -> bool:
        return bool(self._steered("cancel", job_id, int(hard), by.who, by.why))

    def pause(self, job_id: str, by: By) -> bool:
        return bool(self._steered("pause", job_id, 1, by.who, by.why)[1])

    def resume(self, job_id: str, by: By) -> bool:
        return bool(self._steered("pause", job_id, 0, by.who, by.why)[1])

    def prioritise(self, job_id: str, priority: int, by: By) -> bool:
        check_range(priority, "priority", PRIORITY_MIN, PRIORITY_MAX)
        return bool(self._steered("prioritise", job_id, priority, AGEING_SECONDS, by.who, by.why))

    def retry(
        self, job_id: str, by: By, *, fingerprint: str = "", chunks_per_second: float = 0, dry_run: bool = False
    ) -> Retried:
        how = (fingerprint, chunks_per_second, int(dry_run), by.who, by.why, EXPIRY_SECONDS)
        answer = self._steered("retry", job_id, *how)
        chunks, items, more = map(int, answer)
        if chunks < 0:
            raise InvalidSpec(
                f"job {job_id} was cancelled or has expired: what failed in it is not made again; order it anew"
            )
        return Retried(chunks=chunks, items=items, more=bool(more))

    @translated
    def set_team(self, name: str, limits: TeamLimits, by: By) -> None:
        check_name(name, "team")
        check_range(limits.weight, "weight", 0.001, 1_000)
        check_range(limits.queued_max, "queued_max", 0, 10**12)
        check_range(limits.running_max, "running_max", 0, 10**6)
        pairs = ("weight", limits.weight, "queued_max", limits.queued_max, "running_max", limits.running_max)
        self._move("steer", "team", name, by.who, by.why, *pairs)

    @translated
    def set_jobs_max(self, jobs_max: int, by: By) -> None:
        check_range(jobs_max, "jobs_max", 1, 10**9)
        self._move("steer", "limits", "jobs", by.who, by.why, "jobs_max", jobs_max)

    @translated
    def drain(self, worker: str, by: By, *, draining: bool = True) -> None:
        self._move("steer", "drain", worker, by.who, by.why, int(draining))

    @translated
    def emit(self, event_type: str, job_id: str, facts: dict[str, Any]) -> None:
        seconds, micros = self._redis.time()
        fields = {"type": event_type, "job": job_id, "at": f"{seconds + micros / 1e6:.3f}", "facts": json.dumps(facts)}
        self._redis.xadd("aigc:events", cast("dict[Any, Any]", fields), maxlen=10_000, approximate=True)

    @translated
    def _steered(self, name: str, job_id: str, *args: object) -> Any:
        answer = self._move(name, job_id, *args)
        if answer is None:
            raise unknown(job_id)
        return answer

    def _move(self, name: str, *args: object) -> Any:
        move, sent = self._moves[name], cast("Any", list(args))
        try:
            return move(keys=[], args=sent)
        except redis.exceptions.NoScriptError:
            # Flushed once more between its loading and its call; sent as a whole it cannot be missing.
            return self._redis.eval(str(move.script), 0, *sent)


def _submission(answer: list[Any], idempotency_key: str) -> Submission:
    if answer[0] == "full":
        raise QuotaExceeded(f"{answer[1]}; nothing was accepted: order less, or later, or ask operations for more room")
    if answer[0] == "conflict":
        raise AlreadyOrdered(
            f"idempotency key {idempotency_key!r} was used for another order, {answer[1]}; give each order its own"
        )
    new = answer[0] == "accepted"
    return Submission(job_id=answer[1], is_new=new, tickets=int(answer[2]) if new else 0)


def _runs(done: Sequence[range]) -> str:
    return ",".join(f"{run.start}-{run.stop - 1}" for run in done if run)
