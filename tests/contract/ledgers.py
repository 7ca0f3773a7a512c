"""Both ledgers with a clock that the test moves on."""

from collections.abc import Callable
from dataclasses import dataclass

import redis

from aigc_core.clock import FixedClock
from aigc_core.jobs.memory_ledger import MemoryLedger
from aigc_core.jobs.records import By, ChunkReport, Lease
from aigc_core.jobs.redis_ledger import RedisLedger
from aigc_core.jobs.states import JobKind, JobState

#: Time as a key, for scripts whose time a test moves.
CLOCK_LUA = "local function now() return tonumber(redis.call('GET', 'test:clock')) end\n"

BY = By(who="tester", why="a test")


@dataclass
class TimedLedger:
    """A ledger and its time."""

    ledger: RedisLedger | MemoryLedger
    pass_time: Callable[[float], None]
    now: Callable[[], float]

    def claim(self, kind: JobKind = JobKind.GENERATION, *, seconds: float = 60) -> Lease | None:
        return self.ledger.claim(kind, worker="w", lease_seconds=seconds)

    def claimed(self, kind: JobKind = JobKind.GENERATION, *, seconds: float = 60) -> Lease:
        lease = self.claim(kind, seconds=seconds)
        assert lease is not None
        return lease

    def made(self, lease: Lease, items: int = 128) -> bool:
        """Commit a chunk; whether it was accepted."""
        return self.ledger.complete(lease, ChunkReport(completed=items, payload_bytes=items)).accepted

    def finalised(self, lease: Lease, state: JobState) -> bool:
        return self.ledger.complete(lease, ChunkReport(final_state=state)).accepted


def in_memory(window: int = 32) -> TimedLedger:
    clock = FixedClock()
    return TimedLedger(MemoryLedger(clock, window=window), clock.advance, clock.now)


def in_redis(client: redis.Redis, window: int = 32) -> TimedLedger:
    """On an emptied Redis."""
    clock = FixedClock()
    client.set("test:clock", repr(clock.now()))

    def pass_time(seconds: float) -> None:
        clock.advance(seconds)
        client.set("test:clock", repr(clock.now()))

    return TimedLedger(RedisLedger(client, window=window, clock_lua=CLOCK_LUA), pass_time, clock.now)
