"""What can be read of the ledger in Redis: plain reads, no scripts. The key table is on top of lua/prelude.lua."""

import json
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import redis

from aigc_core.errors import NotFound, Unavailable
from aigc_core.jobs.order import LANES
from aigc_core.jobs.records import AuditEntry, By, Counts, DeadLetter, Event, Job, Team, TeamLimits
from aigc_core.jobs.states import JobKind, JobState

#: A socket that says nothing for this long is dead. Longer than the wait of `events`, shorter than a person's patience.
SOCKET_SECONDS = 4.0

#: Jobs with chunks given up that one look at all dead letters goes through.
DEAD_JOBS_MAX = 1_000

P = ParamSpec("P")
R = TypeVar("R")
Self_ = TypeVar("Self_", bound="RedisReads")


def translated(method: Callable[Concatenate[Self_, P], R]) -> Callable[Concatenate[Self_, P], R]:
    """Our error for redis-py's."""

    @wraps(method)
    def call(self: Self_, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except (redis.RedisError, OSError) as error:
            raise Unavailable(
                f"Redis at {self.address} did not do its work ({error}); check AIGC_REDIS_URL and that it runs"
            ) from error

    return cast("Callable[Concatenate[Self_, P], R]", call)


def job_key(job_id: str) -> str:
    """The hash of a job."""
    return f"aigc:job:{job_id}"


def unknown(job_id: str) -> NotFound:
    """The error for a job that is not there."""
    return NotFound(f"no job {job_id!r}; `aigc jobs` lists them")


class RedisReads:
    """The reading half of `RedisLedger`."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        options = client.connection_pool.connection_kwargs
        self.address = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"

    @translated
    def ping(self) -> None:
        """Raise `Unavailable` unless Redis answers."""
        self._redis.ping()

    @translated
    def job(self, job_id: str) -> Job:
        found = self._read([job_id])
        if not found:
            raise unknown(job_id)
        return found[0]

    @translated
    def jobs(self, *, count_max: int) -> list[Job]:
        return self._read(cast("list[str]", self._redis.zrevrange("aigc:jobs", 0, count_max - 1)))

    @translated
    def unannounced(self, *, count_max: int) -> list[Job]:
        # Of one that runs again meanwhile, the next end is told; one that was forgotten has nothing to tell.
        ended = cast("list[str]", self._redis.zrange("aigc:unannounced", 0, count_max - 1))
        found = {job.id: job for job in self._read(ended)}
        if gone := [job_id for job_id in ended if job_id not in found]:
            self._redis.zrem("aigc:unannounced", *gone)
        return [job for job in found.values() if job.state.is_final]

    @translated
    def has_work(self, kind: JobKind) -> bool:
        return bool(self._redis.exists(*(f"aigc:ready:{kind}:{lane}" for lane in LANES)))

    @translated
    def live_job_counts(self) -> dict[tuple[str, str], int]:
        """Jobs that are not final, by (kind, state): for gauges."""
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in cast("set[str]", self._redis.smembers("aigc:live")):
            pipeline.hmget(job_key(job_id), "kind", "state")
        counts: dict[tuple[str, str], int] = {}
        for kind, state in pipeline.execute():
            if kind:
                counts[kind, state] = counts.get((kind, state), 0) + 1
        return counts

    @translated
    def done_chunks(self, job_id: str) -> set[int]:
        # Read as bytes: the client decodes everything else.
        raw = cast("Any", self._redis).execute_command("GET", f"{job_key(job_id)}:done", NEVER_DECODE=True) or b""
        return {8 * place + bit for place, byte in enumerate(raw) if byte for bit in range(8) if byte & (0x80 >> bit)}

    @translated
    def dead_letters(self, job_id: str = "") -> list[DeadLetter]:
        ids = [job_id] if job_id else sorted(cast("set[str]", self._redis.smembers("aigc:dead")))[:DEAD_JOBS_MAX]
        pipeline = self._redis.pipeline(transaction=False)
        for one in ids:
            pipeline.hgetall(f"{job_key(one)}:dead")
        letters = []
        for one, entries in zip(ids, pipeline.execute(), strict=True):
            for chunk, text in sorted(entries.items(), key=lambda entry: int(entry[0])):
                fingerprint, _, reason = text.partition(" ")
                letters.append(DeadLetter(job_id=one, chunk=int(chunk), fingerprint=fingerprint, reason=reason))
        return letters

    @translated
    def teams(self) -> list[Team]:
        names = sorted(key.removeprefix("aigc:team:") for key in self._redis.scan_iter("aigc:team:*", count=1_000))
        pipeline = self._redis.pipeline(transaction=False)
        for name in names:
            pipeline.hgetall(f"aigc:team:{name}")
        return [_team(name, fields) for name, fields in zip(names, pipeline.execute(), strict=True)]

    @translated
    def is_draining(self, worker: str) -> bool:
        return bool(self._redis.sismember("aigc:draining", worker))

    @translated
    def workers(self) -> dict[str, tuple[float, bool]]:
        """Workers that asked for work during the last day: (time of the last claim, whether it drains)."""
        draining = cast("set[str]", self._redis.smembers("aigc:draining"))
        seen = cast("list[tuple[str, float]]", self._redis.zrange("aigc:workers", 0, -1, withscores=True))
        return {worker: (at, worker in draining) for worker, at in seen}

    @translated
    def audit_trail(self, *, count_max: int = 100) -> list[AuditEntry]:
        entries = cast("list[tuple[str, dict[str, str]]]", self._redis.xrevrange("aigc:audit", count=count_max))
        return [
            AuditEntry(
                at=float(fields["at"]),
                move=fields["move"],
                subject=fields["subject"],
                by=By(who=fields["who"], why=fields["why"]),
                before=fields["before"],
                after=fields["after"],
            )
            for _, fields in entries
        ]

    @translated
    def events(self, *, after: str, wait_seconds: float, count_max: int = 100) -> Sequence[Event]:
        wait_ms = max(1, int(min(wait_seconds, SOCKET_SECONDS - 1) * 1000))
        answer = cast("Any", self._redis.xread({"aigc:events": after}, count=count_max, block=wait_ms))
        if not answer:
            return []
        entries = answer[0][1] if isinstance(answer, list) else next(iter(answer.values()))[0]
        return [
            Event(
                id=position,
                type=fields["type"],
                job_id=fields["job"],
                at=float(fields["at"]),
                facts=json.loads(fields["facts"]) or {},
            )
            for position, fields in entries
        ]

    @translated
    def last_event(self) -> str:
        """The position of the newest event, from which to follow; "0" when there is none."""
        newest = cast("list[tuple[str, Any]]", self._redis.xrevrange("aigc:events", count=1))
        return newest[0][0] if newest else "0"

    def _read(self, job_ids: list[str]) -> list[Job]:
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.hgetall(job_key(job_id))
            pipeline.hlen(f"{job_key(job_id)}:leases")
        answers = pipeline.execute()
        return [_job(fields, leased) for fields, leased in zip(answers[0::2], answers[1::2], strict=True) if fields]


def _team(name: str, fields: dict[str, str]) -> Team:
    limits = TeamLimits(
        weight=float(fields.get("weight", 1)),
        queued_max=int(fields.get("queued_max", 0)),
        running_max=int(fields.get("running_max", 0)),
    )
    running = {kind: int(fields.get(f"running:{kind}", 0)) for kind in JobKind}
    return Team(
        name=name, limits=limits, queued=int(fields.get("queued", 0)), running={str(k): n for k, n in running.items()}
    )


def _job(fields: dict[str, str], leased: int) -> Job:
    def number(name: str) -> int:
        return int(float(fields.get(name) or 0))

    def time(name: str) -> float | None:
        return float(fields[name]) if fields.get(name) else None

    return Job(
        id=fields["id"],
        kind=JobKind(fields["kind"]),
        team=fields["team"],
        lane=fields.get("lane", "normal"),
        priority=number("priority"),
        state=JobState(fields["state"]),
        spec_json=fields["spec"],
        chunk_count=number("chunk_count"),
        chunks_done=number("done"),
        chunks_discarded=number("discarded"),
        chunks_running=leased,
        counts=Counts(
            total=number("total"),
            completed=number("completed"),
            failed=number("failed"),
            payload_bytes=number("bytes"),
        ),
        created_at=float(fields["created_at"]),
        started_at=time("started_at"),
        finished_at=time("finished_at"),
        paused=fields.get("paused") == "1",
        stop=fields.get("stop", ""),
        waiting_for=fields.get("waiting_for", ""),
        last_error=fields.get("last_error", ""),
        attempts_error=number("attempts_error"),
        attempts_lost=number("attempts_lost"),
        start_at=float(fields.get("start_at") or 0),
        deadline_at=float(fields.get("deadline_at") or 0),
        expires_at=float(fields.get("expires_at") or 0),
        progress=json.loads(fields.get("progress") or "{}"),
    )
