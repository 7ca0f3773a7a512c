"""SCRIPT FLUSH at the worst moment: again and again between the loading of a script and its call."""

from typing import Any

import pytest
import redis
from builders import a_generation_spec

from aigc_core.jobs.records import ChunkReport
from aigc_core.jobs.redis_ledger import RedisLedger
from aigc_core.jobs.states import JobKind


def test_a_move_is_made_though_its_script_is_flushed_before_every_call(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a Redis that has forgotten every script by the time it is called
    called = redis_client.evalsha

    def flushed(*args: Any) -> Any:
        redis_client.script_flush()
        return called(*args)

    monkeypatch.setattr(redis_client, "evalsha", flushed)
    ledger = RedisLedger(redis_client)
    # when a chunk is ordered, claimed and committed
    ledger.submit("g1", a_generation_spec(count=128), idempotency_key="g1")
    lease = ledger.claim(JobKind.GENERATION, worker="w", lease_seconds=60)
    # then every move was made, once
    assert lease is not None
    assert ledger.complete(lease, ChunkReport(completed=128)).accepted
    assert ledger.job("g1").chunks_done == 1
