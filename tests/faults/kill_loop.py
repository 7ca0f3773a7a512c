"""kill -9 at random moments, round after round, while small jobs run without a pause.

    PYTHONPATH=tests python -m faults.kill_loop [--rounds 1000] [--seed 1] [--minutes 20]

Each round kills one of: a generation worker, beat, a producer in the middle of a submit (the order is then repeated with its
idempotency key), Redis (started again on its append-only file). Whoever was killed is started again at once. Ends with 1 if
a picture is lost or doubled, a lease is orphaned, an order is there twice, or a kill cost more than what was in flight.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from aigc_core.clock import SystemClock
from aigc_core.errors import NotFound
from aigc_core.jobs.specs import GenerationSpec
from aigc_core.jobs.submit import submit
from aigc_core.storage import layout
from faults.plant import LEASE_SECONDS, MODEL, Orphans, Plant, memory, until
from faults.verify import leftovers, problems

#: Pictures of a job, its chunks have 64; and jobs that live at once.
JOB_COUNT, LIVE_JOBS = 512, 2

#: How often each is the victim.
VICTIMS = {"worker": 55, "beat": 15, "producer": 15, "redis": 15}

PRODUCER = f"""
import sys
from workers.producer import Producer
Producer.from_env().generate(model={MODEL!r}, version=1, count={JOB_COUNT}, chunk_items=64, idempotency_key=sys.argv[1])
"""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What the loop has seen."""

    rounds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VICTIMS, 0))
    orders: int = 0
    jobs_verified: int = 0
    problems: list[str] = field(default_factory=list)
    in_flight: int = 0  # leases that lived when somebody who could lose them was killed
    orphans: list[Orphans] = field(default_factory=list)
    redis_seconds: list[float] = field(default_factory=list)  # from the restart to the next commit
    worker_in_flight_max: int = 0
    stray_specs: int = 0  # specs in S3 of submits that died before the ledger knew of them


class Loop:
    """One run over one plant."""

    def __init__(self, plant: Plant, seed: int) -> None:
        self.plant = plant
        self.random = random.Random(seed)
        self.tally = Tally()
        self.live: list[str] = []

    def round(self) -> None:
        """Keep jobs running, wait a moment, kill somebody."""
        self.tend()
        time.sleep(self.random.uniform(0, 0.4))
        victim = self.random.choices(list(VICTIMS), weights=list(VICTIMS.values()))[0]
        self.tally.rounds[victim] += 1
        getattr(self, f"kill_{victim}")()

    def tend(self) -> None:
        """Verify what has ended, order anew in its place."""
        self.plant.read_events()
        for job_id in list(self.live):
            try:
                job = self.plant.ledger.job(job_id)
            except NotFound:
                # Redis answers before the append-only file is written while the disk is busy with the sync before.
                self.tally.problems.append(f"the accepted order {job_id} went with what Redis had not yet written")
                self.live.remove(job_id)
                self.tally.orders -= 1
                continue
            if job.state.is_final:
                self.live.remove(job_id)
                self.verify(job_id)
        while len(self.live) < LIVE_JOBS:
            self.order()

    def verify(self, job_id: str) -> None:
        """Look at every object of a job that has ended, and make room."""
        self.tally.problems += problems(self.plant, job_id)
        self.tally.jobs_verified += 1
        shutil.rmtree(self.plant.bucket_folder / layout.job_prefix(job_id), ignore_errors=True)

    def order(self) -> None:
        self.live.append(self.plant.order(JOB_COUNT))
        self.tally.orders += 1

    def kill_worker(self) -> None:
        name = self.random.choice(("a", "b"))
        self.plant.wait_ready(name)
        orphans = self.plant.kill(name)
        self.plant.worker(name)
        self.tally.orphans.append(orphans)
        self.tally.in_flight += len(orphans.chunks)
        self.tally.worker_in_flight_max = max(self.tally.worker_in_flight_max, len(orphans.chunks))

    def kill_beat(self) -> None:
        self.plant.beat("beat")  # ends the one that runs by SIGKILL

    def kill_redis(self) -> None:
        self.order()  # so that there is something to commit afterwards
        self.tally.in_flight += 6 + int(self.plant.client.zcard("aigc:leases"))  # and a claim of every thread
        self.plant.start_redis()
        self.tally.redis_seconds.append(self.plant.first_commit_after(time.time()))

    def kill_producer(self) -> None:
        key = f"order-{self.tally.orders}"
        self.tally.orders += 1
        point = self.random.choice(("after_spec_put", "after_submit", "after_submit_tickets", ""))
        environment = self.plant.environment() | ({"AIGC_FAILPOINTS": f"{point}:kill"} if point else {})
        producer = subprocess.Popen(
            [sys.executable, "-c", PRODUCER, key], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if not point:
            with suppress(subprocess.TimeoutExpired):
                producer.wait(self.random.uniform(0.3, 1.5))
            producer.kill()
        code = producer.wait()
        if point and code != -signal.SIGKILL:
            self.tally.problems.append(f"the producer of {key} was to die {point}, but exited with {code}")
        first = self.plant.client.get(f"aigc:idempotency:default:generation:{key}")
        spec = GenerationSpec.from_json(self.plant.ledger.job(self.live[0]).spec_json)
        job_id = submit(
            spec, ledger=self.plant.ledger, store=self.plant.store, publish=lambda *_: None, clock=SystemClock(),
            idempotency_key=key,
        )  # fmt: skip
        if first not in (None, job_id):
            self.tally.problems.append(f"the order {key} is there twice: {first} and {job_id}")
        self.live.append(job_id)

    def finish(self) -> None:
        """Let everything come to its end, then look for what was left behind."""
        for name in ("a", "b"):
            self.plant.wait_ready(name)
        for job_id in self.live:
            self.plant.wait_final(job_id, 120)
            self.verify(job_id)
        self.plant.read_events()
        until(lambda: not leftovers(self.plant), 2 * LEASE_SECONDS, f"no lease is left: {leftovers(self.plant)}")
        known = {str(job_id) for job_id in self.plant.client.zrange("aigc:jobs", 0, -1)}
        if len(known) != self.tally.orders + 1:  # and the reference
            self.tally.problems.append(f"{self.tally.orders + 1} orders became {len(known)} jobs")
        for folder in (self.plant.bucket_folder / "jobs").iterdir():
            if folder.name not in known:
                keys = [
                    path.relative_to(self.plant.bucket_folder).as_posix() for path in folder.rglob("*") if path.is_file()
                ]
                self.tally.stray_specs += keys == [layout.spec_key(folder.name)]
                if keys not in ([], [layout.spec_key(folder.name)]):
                    self.tally.problems.append(f"{len(keys)} objects of no job: {keys[:3]}")
        if self.plant.losses() > self.tally.in_flight:
            self.tally.problems.append(f"{self.plant.losses()} chunks redone, {self.tally.in_flight} in flight at kills")

    def report(self, seconds: float) -> dict[str, object]:
        """The figures."""
        chunk_seconds = [s for orphans in self.tally.orphans for s in self.plant.recovery_seconds(orphans)]
        orphaned = sum(len(orphans.chunks) for orphans in self.tally.orphans)
        lost = sum("lost" in text or "counts" in text for text in self.tally.problems)
        return {
            "benchmark": "kill_loop",
            "rounds": sum(self.tally.rounds.values()),
            "rounds_by_victim": self.tally.rounds,
            "seconds": round(seconds),
            "jobs_verified": self.tally.jobs_verified,
            "pictures": self.tally.jobs_verified * JOB_COUNT,
            "problems": self.tally.problems[:20],
            "jobs_with_losses": lost,
            "orphan_leases": sum(" left" in text for text in self.tally.problems),
            "chunks_in_flight_at_worker_kills": orphaned,
            "chunks_in_flight_per_kill_max": self.tally.worker_in_flight_max,
            "chunks_redone": self.plant.losses(),
            "chunk_recovery_p50_seconds": percentile(chunk_seconds, 0.5),
            "chunk_recovery_p95_seconds": percentile(chunk_seconds, 0.95),
            "chunk_recovery_max_seconds": percentile(chunk_seconds, 1.0),
            "redis_recovery_p95_seconds": percentile(self.tally.redis_seconds, 0.95),
            "specs_of_no_job": self.tally.stray_specs,
        }


def percentile(values: list[float], share: float) -> float | None:
    """The value that `share` of all are at most; None of nothing."""
    return round(sorted(values)[min(len(values) - 1, int(share * len(values)))], 2) if values else None


def run(*, rounds: int, seed: int, minutes: float) -> dict[str, object]:
    """So many rounds, fewer when the minutes are over first."""
    plant = Plant(Path(tempfile.mkdtemp(prefix="kill-loop-", dir=memory())))
    try:
        began = time.monotonic()
        loop = Loop(plant.start(), seed)
        print(f"started in {time.monotonic() - began:.0f} s", flush=True)
        plant.forget_events()
        started = time.monotonic()
        for number in range(rounds):
            if time.monotonic() - started > 60 * minutes:
                break
            loop.round()
            if number % 50 == 49:
                print(f"{number + 1} rounds, {loop.tally.jobs_verified} jobs, {loop.tally.problems[:3]}", flush=True)
        loop.finish()
        return loop.report(time.monotonic() - started)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        for log in sorted(plant.folder.glob("*.log")):
            print(f"== {log.name}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
        raise
    finally:
        plant.close()


def main() -> int:
    """Run and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60.0)
    options = parser.parse_args()
    figures = run(rounds=options.rounds, seed=options.seed, minutes=options.minutes)
    print(json.dumps(figures))
    return 1 if figures["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
