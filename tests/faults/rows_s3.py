"""Rows whose fault is S3, or the way to it."""

import time

from faults.chaos_proxy import chaos_proxy
from faults.fake_s3 import FakeS3, fake_s3
from faults.matrix import Flow, Seen
from faults.plant import Plant, until
from faults.verify import problems


def only_worker(plant: Plant, endpoint: str) -> None:
    """One worker, over another way to S3."""
    plant.end("b")
    plant.worker("a", AIGC_S3_ENDPOINT=endpoint)
    plant.wait_ready("a")


def one_job(plant: Plant, count: int = 4_096) -> tuple[str, float]:
    """A job from start to end: its id, pictures per second."""
    started = time.monotonic()
    job_id = plant.order(count)
    plant.wait_final(job_id, 300)
    return job_id, count / (time.monotonic() - started)


def slow_down(plant: Plant, n: int) -> Seen:
    """503 SlowDown to a fifth of the puts."""
    found, clean, slowed, dead = [], [], [], 0
    with fake_s3(plant.folder / "s3") as server:
        only_worker(plant, server.url)
        one_job(plant)
        for _ in range(n):
            for share, rates in ((0.0, clean), (0.2, slowed)):
                server.slow_down = share
                job_id, rate = one_job(plant)
                rates.append(rate)
                found += problems(plant, job_id)
                dead += plant.ledger.job(job_id).chunks_discarded
    ratio = sum(slowed) / sum(clean)
    return Seen(n=n, figure=f"{ratio:.0%} of the rate, {dead} dead", ok=ratio >= 0.6 and dead == 0, problems=found)


def with_fault(plant: Plant, n: int, fault: str, share: float) -> tuple[FakeS3, Flow, list[str]]:
    """Jobs until a fault has happened n times."""
    with fake_s3(plant.folder / "s3") as server:
        only_worker(plant, server.url)
        setattr(server, fault, share)
        flow = Flow(plant)
        until(lambda: flow.tend() and server.counts[fault] >= n, 600, f"{n} × {fault}")
        return server, flow, flow.finish(300)


def reply_lost(plant: Plant, n: int) -> Seen:
    """The object is stored, the answer never comes."""
    server, flow, found = with_fault(plant, n, "lose_reply", 0.02)
    return Seen(n=server.counts["lose_reply"], figure=f"{len(flow.jobs)} jobs exact", problems=found)


def damaged(plant: Plant, n: int) -> Seen:
    """A bit of the body flips on its way."""
    server, _, found = with_fault(plant, n, "flip", 0.002)
    figure = f"{server.counts['bad_digest']} of {server.counts['flip']} refused, of {server.counts['put']} puts"
    return Seen(n=server.counts["flip"], figure=figure, ok=server.counts["bad_digest"] >= n, problems=found)


def away(plant: Plant, n: int) -> Seen:
    """S3 takes no connection for 20 s."""
    recoveries, found, spent = [], [], 0
    with chaos_proxy(plant.ports["s3"]) as proxy:
        only_worker(plant, f"http://127.0.0.1:{proxy.port}")
        for _ in range(n):
            job_id = plant.order(4_096)
            plant.wait_chunks(job_id, 1)
            proxy.mode = "refuse"
            until(lambda j=job_id: plant.ledger.job(j).waiting_for, 60, "the job says what it waits for")
            since = time.monotonic()
            until(lambda s=since: time.monotonic() - s > 20, 30, "20 s without S3")
            proxy.mode = "pass"
            recoveries.append(plant.first_commit_after(time.time()))
            plant.wait_final(job_id, 120)
            found += problems(plant, job_id)
            spent += plant.ledger.job(job_id).attempts_error
    return Seen(n=n, figure=f"{spent} attempts spent", ok=spent == 0, problems=found, recoveries=recoveries)
