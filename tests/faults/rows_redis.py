"""Rows whose fault is Redis, or the way to it."""

import random
import signal
import time
from pathlib import Path

from aigc_core.errors import Unavailable
from aigc_core.jobs.redis_ledger import RedisLedger, connect
from faults.chaos_proxy import chaos_proxy
from faults.matrix import Flow, Seen
from faults.plant import Plant, until
from faults.verify import problems


def crash(plant: Plant, n: int) -> Seen:
    """kill -9 and start again on the append-only file."""
    flow, recoveries = Flow(plant), []
    for _ in range(n):
        flow.tend()
        time.sleep(random.uniform(0, 0.4))
        flow.order()
        plant.start_redis()
        recoveries.append(plant.first_commit_after(time.time()))
    survived = sum(plant.alive(name) for name in ("a", "b", "beat"))
    return Seen(
        n=n, figure=f"{survived} of 3 processes survived", ok=survived == 3, problems=flow.finish(), recoveries=recoveries
    )  # fmt: skip


def power_loss(plant: Plant, n: int) -> Seen:
    """kill -9, and what was written in the last second and a half is gone."""
    flow, cut, tokens = Flow(plant), 0, True
    for _ in range(n):
        flow.tend()
        flow.order()
        path = newest_append_only_file(plant.folder / "redis")
        size_bytes = path.stat().st_size
        until(lambda p=path, s=size_bytes: p.stat().st_size > s + 20_000, 20, "Redis writes on")
        time.sleep(0.5)
        before = {job_id: int(plant.client.hget(f"aigc:job:{job_id}", "token") or 0) for job_id in flow.jobs}
        plant.end("redis")
        cut += path.stat().st_size - size_bytes
        with path.open("ab") as file:
            file.truncate(size_bytes)
        restarted_at = time.time()
        plant.start_redis()
        plant.first_commit_after(restarted_at)
        after = {job_id: int(plant.client.hget(f"aigc:job:{job_id}", "token") or 0) for job_id in flow.jobs}
        # What was given out since cannot be one of those that were forgotten: it is no smaller than the time.
        tokens = tokens and all(after[j] <= before[j] or after[j] >= restarted_at * 1e6 for j in before if j in after)
    return Seen(n=n, figure=f"{cut:,} bytes of the log lost", ok=cut > 0 and tokens, problems=flow.finish())


def newest_append_only_file(folder: Path) -> Path:
    """Redis 7 keeps a folder of them, the one that grows is the .incr."""
    found = [path for path in folder.rglob("appendonly*aof") if not path.name.endswith(".base.aof")]
    return max(found, key=lambda path: path.stat().st_mtime)


def broker_wiped(plant: Plant, n: int) -> Seen:
    """Every key of the broker is gone; ledger and broker share a database here, so by name."""
    flow, recoveries = Flow(plant), []
    for _ in range(n):
        flow.tend()
        flow.order()
        keys = [key for pattern in ("_kombu*", "unacked*") for key in plant.client.scan_iter(pattern)]
        plant.client.delete("generation", "maintenance", *keys)
        recoveries.append(plant.first_commit_after(time.time()))
    return Seen(n=n, figure="tickets made anew", problems=flow.finish(), recoveries=recoveries)


def frozen(plant: Plant, n: int, *, seconds: float = 30) -> Seen:
    """SIGSTOP: connections stay open, nothing answers."""
    flow, recoveries, waits = Flow(plant), [], []
    for _ in range(n):
        flow.tend()
        flow.order()
        plant.signal("redis", signal.SIGSTOP)
        started = time.monotonic()
        waits.append(seconds_until_refused(plant))
        until(lambda s=started: time.monotonic() - s > seconds, 2 * seconds, "Redis is frozen")
        plant.signal("redis", signal.SIGCONT)
        recoveries.append(plant.first_commit_after(time.time()))
    found = flow.finish()
    return Seen(n=n, figure=f"error after {max(waits):.1f} s", ok=max(waits) <= 30, problems=found, recoveries=recoveries)


def seconds_until_refused(plant: Plant) -> float:
    """How long a caller waits for a clear error."""
    started = time.monotonic()
    try:
        RedisLedger(connect(plant.redis_url)).ping()
    except Unavailable:
        return time.monotonic() - started
    return float("inf")


def hole(plant: Plant, n: int) -> Seen:
    """Connections that are open and answer nothing any more; new ones work."""
    recoveries, found = [], []
    with chaos_proxy(plant.ports["redis"]) as proxy:
        plant.end("b")
        plant.worker("a", AIGC_REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0")
        plant.wait_ready("a")
        for _ in range(n):
            job_id = plant.order(2_048)
            plant.wait_chunks(job_id, 1)
            proxy.mode = "hole"
            since = time.time()
            proxy.mode = "pass"
            plant.wait_final(job_id, 120)
            recoveries.append(time.time() - since)  # with the rest of the job, which needs new tickets
            found += problems(plant, job_id)
    return Seen(n=n, figure="the job's rest is done", problems=found, recoveries=recoveries)


def reset_storm(plant: Plant, n: int) -> Seen:
    """Every connection is reset every 2 s."""
    with chaos_proxy(plant.ports["redis"]) as proxy:
        plant.end("b")
        plant.worker("a", AIGC_REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0")
        plant.wait_ready("a")
        flow = Flow(plant)
        flow.tend()
        before = plant.open_files("a")
        for _ in range(n):
            end = time.monotonic() + 2
            until(lambda e=end: flow.tend() and time.monotonic() > e, 30, "2 s")
            proxy.cut()
        flow.order()
        recovery = plant.first_commit_after(time.time())
        found = flow.finish()
        grown = plant.open_files("a") - before
        return Seen(
            n=n, figure=f"{grown:+d} open files", ok=plant.alive("a") and grown <= 5, problems=found, recoveries=[recovery]
        )  # fmt: skip


#: Pictures of one of the two orders of a slow Redis.
COUNT_SLOW = 16_384


def slow(plant: Plant, n: int) -> Seen:
    """100 ms more for every round trip to Redis."""
    clean, slowed, found = [], [], []
    with chaos_proxy(plant.ports["redis"]) as proxy:
        plant.end("b")
        plant.worker("a", AIGC_REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0", AIGC_WORKER_CONCURRENCY="6")
        plant.wait_ready("a")
        for _ in range(n):
            for latency_seconds, rates in ((0.0, clean), (0.05, slowed)):
                proxy.latency_seconds = latency_seconds
                # Chunks of half a second and more, as real ones are: of tiny pictures that takes 2,048.
                job_ids = [plant.order(COUNT_SLOW, chunk_items=2_048) for _ in range(2)]
                for job_id in job_ids:
                    plant.wait_final(job_id, 120)
                    found += problems(plant, job_id)
                rates.append(2 * COUNT_SLOW / seconds_of_work(plant, job_ids))
    share = sum(slowed) / sum(clean)
    figure = f"{share:.0%} of {sum(clean) / n:.0f} pictures/s"
    return Seen(n=n, figure=figure, ok=share >= 0.8, problems=found)


def seconds_of_work(plant: Plant, job_ids: list[str]) -> float:
    """From the first claim to the last commit."""
    last = max(e.at for e in plant.read_events() if e.job_id in job_ids and e.type == "chunk.completed")
    return last - min(plant.ledger.job(job_id).started_at or last for job_id in job_ids)


def reply_lost(plant: Plant, n: int) -> Seen:
    """The move was made, its answer never came: redis-py sends it again."""
    found = []
    with chaos_proxy(plant.ports["redis"]) as proxy:
        plant.end("b")
        plant.worker("a", AIGC_REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0")
        plant.wait_ready("a")
        proxy.drop_reply_when = lambda request: b"EVALSHA" in request and random.random() < 0.1
        flow = Flow(plant)
        until(lambda: flow.tend() and proxy.dropped_count >= n, 600, f"{n} replies are lost")
        proxy.drop_reply_when = None
        found = flow.finish()
        return Seen(n=proxy.dropped_count, figure=f"{len(flow.jobs)} jobs exact", problems=found)


def full(plant: Plant, n: int) -> Seen:
    """maxmemory below what is used: no write is taken."""
    flow, recoveries, refused = Flow(plant), [], 0
    for _ in range(n):
        flow.tend()
        plant.client.config_set("maxmemory", 1_000_000)
        try:
            plant.order(64)
        except Unavailable:
            refused += 1
        time.sleep(3)
        plant.client.config_set("maxmemory", 0)
        flow.order()
        recoveries.append(plant.first_commit_after(time.time()))
    alive = sum(plant.alive(name) for name in ("a", "b", "beat"))
    found = flow.finish()
    figure = f"{refused} of {n} orders refused, {alive} of 3 alive"
    return Seen(n=n, figure=figure, ok=refused == n and alive == 3, problems=found, recoveries=recoveries)


def scripts_flushed(plant: Plant, n: int) -> Seen:
    """SCRIPT FLUSH while chunks are claimed and committed."""
    flow = Flow(plant)
    for _ in range(n):
        flow.tend()
        plant.client.script_flush()
        time.sleep(random.uniform(0, 0.1))
    found = flow.finish()
    jobs = [plant.ledger.job(job_id) for job_id in flow.jobs]
    spent = sum(job.attempts_error + job.attempts_lost for job in jobs)
    return Seen(n=n, figure=f"{spent} attempts spent", ok=spent == 0, problems=found)
