"""The ledger in Redis over random histories, and that the search finds bugs which are put in on purpose.

AIGC_MACHINE_EXAMPLES: histories per version of Redis, 100 unless set.
"""

import os
from collections.abc import Callable

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from ledger_machine import machine
from servers import redis_servers

from aigc_core.jobs.redis_ledger import RedisLedger

EXAMPLES = int(os.environ.get("AIGC_MACHINE_EXAMPLES", "100"))
STEPS = 40

PROFILE = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, database=None, report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck), derandomize="AIGC_MACHINE_EXAMPLES" not in os.environ,
)  # fmt: skip


@pytest.mark.parametrize("server", redis_servers())
def test_no_history_breaks_the_ledger(
    redis_clients: dict[str, redis.Redis], redis_urls: dict[str, str], server: str
) -> None:
    with redis.Redis.from_url(redis_urls[server]) as raw:
        run_state_machine_as_test(machine(redis_clients[server], raw), settings=PROFILE)


def changed(name: str, old: str, new: str) -> Callable[[RedisLedger], None]:
    """Put a bug into one move."""

    def change(ledger: RedisLedger) -> None:
        script = ledger._moves[name]
        text = str(script.script)
        assert old in text
        ledger._moves[name] = ledger._redis.register_script(text.replace(old, new))

    return change


BUGS = {
    "complete does not compare tokens": changed("complete", "if held(job, chunk) ~= ARGV[3]", "if not held(job, chunk)"),
    "the reaper takes live leases": changed("reap", "'aigc:leases', '-inf', at", "'aigc:leases', '-inf', '+inf'"),
    "the reaper does not count losses": changed("reap", "losses = losses + 1", "losses = losses"),
    "tokens do not outlive a rollback": changed("claim", "math.floor(at * 1000000)", "0"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_the_invariants_alone_find_a_planted_bug(redis_client: redis.Redis, redis_urls: dict[str, str], bug: str) -> None:
    search = settings(PROFILE, max_examples=300, phases=[Phase.generate], derandomize=True)
    with redis.Redis.from_url(redis_urls["wheel"]) as raw:
        broken = machine(redis_client, raw, change=BUGS[bug], modelled=False)
        with pytest.raises(AssertionError):
            run_state_machine_as_test(broken, settings=search)
