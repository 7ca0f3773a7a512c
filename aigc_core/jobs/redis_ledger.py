"""The ledger in Redis: one Lua script per move (`lua/`), so every move is atomic; plain reads otherwise.

redis-py re-sends commands by itself; a move must not be run twice by that, so the client is built with retries off
(`connect`) and a lost reply surfaces as `Unavailable`: the lease then expires and the reaper repairs.
"""

import json
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.resources import files
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from aigc_core.errors import NotFound, Unavailable
from aigc_core.jobs.ledger import ERRORS_MAX, LOSSES_MAX, TICKET_SECONDS, WINDOW
from aigc_core.jobs.plan import chunk_count
from aigc_core.jobs.records import ChunkReport, Completion, Counts, Event, Job, Lease, Repair, Spec
from aigc_core.jobs.specs import GenerationSpec
from aigc_core.jobs.states import JobKind, JobState, LeaseState

#: Longest error text kept in the ledger, in characters; the log has the rest.
ERROR_TEXT_MAX = 1_000

#: How long a slot of a schedule is remembered, in seconds.
SLOT_SECONDS = 7 * 86_400

#: A socket that says nothing for this long is dead. Longer than the wait of `events`, shorter than a person's patience.
SOCKET_SECONDS = 5.0

P = ParamSpec("P")
R = TypeVar("R")
MOVES = ("submit", "claim", "renew", "complete", "fail", "release", "progress", "cancel", "reap")


def connect(url: str) -> redis.Redis:
    """A client that neither hangs nor re-sends; it connects at its first command."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=SOCKET_SECONDS,
        socket_connect_timeout=SOCKET_SECONDS,
        socket_keepalive=True,
        health_check_interval=10,
    )


def _translated(
    method: "Callable[Concatenate[RedisLedger, P], R]",
) -> "Callable[Concatenate[RedisLedger, P], R]":
    """Our error for redis-py's."""

    @wraps(method)
    def call(self: "RedisLedger", *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except (redis.RedisError, OSError) as error:
            raise Unavailable(
                f"Redis at {self.address} did not do its work ({error}); check AIGC_REDIS_URL and that it runs"
            ) from error

    return cast("Callable[Concatenate[RedisLedger, P], R]", call)


class RedisLedger:
    """Keeps the promises of `Ledger`. The key table is the first comment of lua/prelude.lua."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        window: int = WINDOW,
        ticket_seconds: float = TICKET_SECONDS,
    ) -> None:
        self._redis = client
        self._window = window
        self._ticket_seconds = ticket_seconds
        options = client.connection_pool.connection_kwargs
        self.address = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        folder = files("aigc_core.jobs") / "lua"
        prelude = (folder / "prelude.lua").read_text()
        self._moves = {name: client.register_script(prelude + (folder / f"{name}.lua").read_text()) for name in MOVES}

    @_translated
    def submit(self, job_id: str, spec: Spec, *, idempotency_key: str) -> tuple[str, int]:
        generation = isinstance(spec, GenerationSpec)
        chunk_items = spec.chunk_items if isinstance(spec, GenerationSpec) else 1
        total = spec.count if isinstance(spec, GenerationSpec) else 1
        kind = JobKind.GENERATION if generation else JobKind.TRAINING
        answer = self._move(
            "submit",
            [_key(job_id), f"aigc:idempotency:{idempotency_key}"],
            job_id,
            kind,
            spec.team,
            spec.priority,
            spec.to_json(),
            chunk_count(total, chunk_items),
            chunk_items,
            total,
            self._window,
        )
        return answer[0], int(answer[1])

    @_translated
    def claim(self, job_id: str, *, worker: str, lease_seconds: float) -> Lease | None:
        answer = self._move("claim", [_key(job_id)], job_id, worker, lease_seconds)
        if answer is None:
            return None
        chunk, token, attempt, expires_at, kind, spec_json, created_at, waited_seconds = answer
        return Lease(
            job_id=job_id,
            kind=JobKind(kind),
            chunk=int(chunk),
            token=int(token),
            attempt=int(attempt),
            expires_at=float(expires_at),
            spec_json=spec_json,
            created_at=float(created_at),
            waited_seconds=float(waited_seconds),
        )

    @_translated
    def renew(self, lease: Lease, *, lease_seconds: float) -> LeaseState:
        return LeaseState(self._move("renew", [_key(lease.job_id)], lease.chunk, lease.token, lease_seconds))

    @_translated
    def complete(self, lease: Lease, report: ChunkReport) -> Completion:
        accepted, ticket = self._move(
            "complete",
            [_key(lease.job_id)],
            lease.job_id,
            lease.chunk,
            lease.token,
            report.completed,
            report.failed,
            report.payload_bytes,
            report.final_state or "",
        )
        return Completion(accepted=bool(accepted), next_ticket=bool(ticket))

    @_translated
    def fail(self, lease: Lease, error: str, *, delay_seconds: float, fatal: bool) -> tuple[str, bool]:
        result, ticket = self._move(
            "fail",
            [_key(lease.job_id)],
            lease.job_id,
            lease.chunk,
            lease.token,
            error[:ERROR_TEXT_MAX],
            delay_seconds,
            int(fatal),
            ERRORS_MAX,
        )
        return result, bool(ticket)

    @_translated
    def release(self, lease: Lease, *, delay_seconds: float, waiting_for: str) -> bool:
        text = waiting_for[:ERROR_TEXT_MAX]
        keys = [_key(lease.job_id)]
        return bool(self._move("release", keys, lease.job_id, lease.chunk, lease.token, delay_seconds, text))

    @_translated
    def progress(self, lease: Lease, facts: dict[str, Any]) -> None:
        self._move("progress", [_key(lease.job_id)], lease.job_id, lease.chunk, lease.token, json.dumps(facts))

    @_translated
    def cancel(self, job_id: str) -> int:
        tickets = int(self._move("cancel", [_key(job_id)], job_id))
        if tickets < 0:
            raise NotFound(f"no job {job_id!r}; `aigc jobs` lists them")
        return tickets

    @_translated
    def reap(self, *, queued: dict[str, int]) -> Repair:
        pairs = [part for pair in queued.items() for part in pair]
        expired, *found = self._move("reap", [], self._ticket_seconds, LOSSES_MAX, *pairs)
        ids, kinds, tickets = found[0::3], found[1::3], found[2::3]
        return Repair(
            expired=int(expired),
            tickets={job_id: int(count) for job_id, count in zip(ids, tickets, strict=True)},
            kinds={job_id: JobKind(kind) for job_id, kind in zip(ids, kinds, strict=True)},
        )

    @_translated
    def emit(self, event_type: str, job_id: str, facts: dict[str, Any]) -> None:
        seconds, micros = self._redis.time()
        fields = {"type": event_type, "job": job_id, "at": f"{seconds + micros / 1e6:.3f}", "facts": json.dumps(facts)}
        self._redis.xadd("aigc:events", cast("dict[Any, Any]", fields), maxlen=10_000, approximate=True)

    @_translated
    def claim_slot(self, schedule: str, slot: str) -> bool:
        return bool(self._redis.set(f"aigc:slot:{schedule}:{slot}", "1", nx=True, ex=SLOT_SECONDS))

    @_translated
    def job(self, job_id: str) -> Job:
        found = self._read([job_id])
        if not found:
            raise NotFound(f"no job {job_id!r}; `aigc jobs` lists them")
        return found[0]

    @_translated
    def jobs(self, *, count_max: int) -> list[Job]:
        return self._read(cast("list[str]", self._redis.zrevrange("aigc:jobs", 0, count_max - 1)))

    @_translated
    def live_job_counts(self) -> dict[tuple[str, str], int]:
        """Jobs that are not final, by (kind, state): for gauges."""
        counts: dict[tuple[str, str], int] = {}
        for job in self._read(list(cast("set[str]", self._redis.smembers("aigc:live")))):
            counts[job.kind, job.state] = counts.get((job.kind, job.state), 0) + 1
        return counts

    @_translated
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

    @_translated
    def last_event(self) -> str:
        """The position of the newest event, from which to follow; "0" when there is none."""
        newest = cast("list[tuple[str, Any]]", self._redis.xrevrange("aigc:events", count=1))
        return newest[0][0] if newest else "0"

    @_translated
    def ping(self) -> None:
        """Raise `Unavailable` unless Redis answers."""
        self._redis.ping()

    def _move(self, name: str, keys: list[str], *args: object) -> Any:
        return self._moves[name](keys=keys, args=cast("Any", list(args)))

    def _read(self, job_ids: list[str]) -> list[Job]:
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.hgetall(_key(job_id))
            pipeline.hlen(f"{_key(job_id)}:leases")
        answers = pipeline.execute()
        return [_job(fields, leased) for fields, leased in zip(answers[0::2], answers[1::2], strict=True) if fields]


def _key(job_id: str) -> str:
    return f"aigc:job:{job_id}"


def _job(fields: dict[str, str], leased: int) -> Job:
    def number(name: str) -> int:
        return int(float(fields.get(name) or 0))

    def time(name: str) -> float | None:
        return float(fields[name]) if fields.get(name) else None

    return Job(
        id=fields["id"],
        kind=JobKind(fields["kind"]),
        team=fields["team"],
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
        cancel_requested=fields.get("cancel") == "1",
        waiting_for=fields.get("waiting_for", ""),
        last_error=fields.get("last_error", ""),
        attempts_error=number("attempts_error"),
        attempts_lost=number("attempts_lost"),
        progress=json.loads(fields.get("progress") or "{}"),
    )
