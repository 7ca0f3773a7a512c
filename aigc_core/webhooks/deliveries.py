"""What is to be delivered and what came of every attempt, kept in the ledger's Redis: at least once, one id per message.

A claim counts as an attempt and holds the message for HOLD_SECONDS; a worker that vanishes costs that time and nothing else.
Moves are Lua scripts (`lua/`; the key table is on top of enqueue.lua), by the time of Redis.
"""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, cast

import redis

from aigc_core.errors import NotFound
from aigc_core.jobs.redis_reads import RedisReads, translated
from aigc_core.webhooks.post import Answer

#: Pause after the first attempt, the second, …, in seconds: 10 attempts over 22 hours.
PAUSES_SECONDS = (5.0, 30.0, 120.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0)
ATTEMPTS_MAX = len(PAUSES_SECONDS) + 1

#: After this long, in seconds, an attempt of which nothing was heard counts as vanished; several times what one may take.
HOLD_SECONDS = 60.0

#: How long messages and their log are kept, in seconds.
KEEP_SECONDS = 30 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message, claimed for one attempt."""

    webhook_id: str
    job_id: str
    url: str
    body: bytes
    attempt: int  # 1-based, over all rounds
    round_attempt: int  # 1-based, since the last replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One line of the log."""

    number: int
    at: float  # seconds since 1970 UTC, by the clock of Redis
    outcome: str  # sending (or its worker vanished), delivered, failed, given_up
    status: int = 0
    text: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """All about one message."""

    webhook_id: str
    url: str
    state: str  # pending, delivered, given_up
    created_at: float
    next_at: float | None  # of the next attempt
    attempts: tuple[Attempt, ...]


class Deliveries(RedisReads):
    """Messages by the id that the receiver sees."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        folder = files("aigc_core.webhooks") / "lua"
        self._moves = {
            name: client.register_script((folder / f"{name}.lua").read_text())
            for name in ("enqueue", "claim", "record", "replay")
        }

    @translated
    def enqueue(self, webhook_id: str, *, job_id: str, url: str, body: bytes) -> bool:
        """Keep a message until it is delivered; False when the id is known: then nothing changes."""
        return bool(self._move("enqueue", webhook_id, job_id, url, body, KEEP_SECONDS))

    @translated
    def claim(self, *, count_max: int, hold_seconds: float = HOLD_SECONDS) -> list[Message]:
        """Messages whose time has come, for one attempt each."""
        return [
            Message(
                webhook_id=webhook_id,
                job_id=job_id,
                url=url,
                body=body.encode(),
                attempt=int(attempt),
                round_attempt=int(round_attempt),
            )
            for webhook_id, job_id, url, body, attempt, round_attempt in self._move(
                "claim", count_max, hold_seconds, ATTEMPTS_MAX, KEEP_SECONDS
            )
        ]

    @translated
    def record(self, message: Message, answer: Answer, *, seconds: float, jitter: float = 0.0) -> str:
        """Write what came of an attempt and say it in a word. `jitter` in [0, 1] makes the pause up to 20 % longer."""
        last = message.round_attempt >= ATTEMPTS_MAX or answer.refused_for_good
        outcome = "delivered" if answer.accepted else "given_up" if last else "failed"
        pause = 0.0 if outcome != "failed" else PAUSES_SECONDS[message.round_attempt - 1] * (1 + 0.2 * jitter)
        what = (outcome, answer.status, answer.text, f"{seconds:.3f}", pause)
        self._move("record", message.webhook_id, message.attempt, *what)
        return outcome

    @translated
    def replay(self, job_id: str) -> int:
        """Send all messages of a job again, under their ids; how many. `NotFound` when there are none."""
        ids = self._ids(job_id)
        if not ids:
            raise NotFound(f"no webhook of job {job_id!r}: it named none, has not ended, or ended more than 30 days ago")
        return sum(self._move("replay", webhook_id) for webhook_id in ids)

    @translated
    def of_job(self, job_id: str) -> list[Delivery]:
        """The messages of a job, oldest first."""
        return [made for webhook_id in self._ids(job_id) if (made := self._delivery(webhook_id)) is not None]

    def _ids(self, job_id: str) -> list[str]:
        return sorted(cast("set[str]", self._redis.smembers(f"aigc:webhooks:of:{job_id}")))

    def _delivery(self, webhook_id: str) -> Delivery | None:
        fields = cast("dict[str, str]", self._redis.hgetall(f"aigc:webhook:{webhook_id}"))
        if not fields:
            return None
        lines = cast("dict[str, str]", self._redis.hgetall(f"aigc:webhook:{webhook_id}:log"))
        due = self._redis.zscore("aigc:webhooks:due", webhook_id)
        return Delivery(
            webhook_id=webhook_id,
            url=fields["url"],
            state=fields["state"],
            created_at=float(fields["created_at"]),
            next_at=due,
            attempts=tuple(_attempt(int(number), json.loads(lines[number])) for number in sorted(lines, key=int)),
        )

    def _move(self, name: str, *args: object) -> Any:
        return self._moves[name](keys=[], args=cast("Any", list(args)))


def _attempt(number: int, line: dict[str, Any]) -> Attempt:
    return Attempt(
        number=number,
        at=float(line["at"]),
        outcome=line["outcome"],
        status=int(line.get("status", 0)),
        text=line.get("text", ""),
        seconds=float(line.get("seconds", 0)),
    )
