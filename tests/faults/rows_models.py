"""Rows whose fault is the model server, a publish, a training, or a schedule."""

import json
import signal
import time
from pathlib import Path
from typing import Any

from aigc_core.storage import layout
from faults.matrix import Flow, Seen
from faults.plant import AIGC, ROOT, Plant, until

DATASET = "digits"

#: Two beats send the tick of a slot at the same time; then the clock jumps back an hour, and the slot before comes again.
TWO_BEATS = """
import threading
from aigc_core.clock import FixedClock
from workers import maintenance
from workers.lifecycle import runtime
clock = runtime().clock = FixedClock(1_800_000_000.0)
runtime().ledger._redis.flushdb()
for slot in range(SLOTS):
    beats = [threading.Thread(target=maintenance.retrain, args=(3600.0,)) for _ in range(2)]
    [beat.start() for beat in beats]
    [beat.join() for beat in beats]
    clock.advance(-3600.0)
    if slot: maintenance.retrain(3600.0)
    clock.advance(2 * 3600.0)
runs = runtime().ledger.jobs(count_max=100_000)
print(len(runs))
"""


def ensure_dataset(plant: Plant) -> None:
    """The handwritten digits of scikit-learn, ingested once."""
    if not (plant.bucket_folder / layout.dataset_card_key(DATASET)).exists():
        command = [*AIGC, "dataset", "ingest", "digits", "--name", DATASET, "--size", "32"]
        plant.run_code(f"import subprocess; subprocess.run({command!r}, check=True)")


def schedule_slots(plant: Plant, n: int) -> Seen:
    """Two beats and a jumping clock: one retraining for each slot."""
    ensure_dataset(plant)
    settings = {
        "AIGC_REDIS_URL": plant.redis_url.replace("/0", "/1"),  # its orders are not to be worked on
        "AIGC_RETRAIN_DATASET": DATASET,
        "AIGC_RETRAIN_MODEL": "retrained",
        "AIGC_RETRAIN_PRESET": "quick-32",
    }
    before = len(list((plant.bucket_folder / "jobs").glob("t*/spec.json")))
    runs = int(plant.run_code(TWO_BEATS.replace("SLOTS", str(n)), **settings).stdout.split()[-1])
    specs = len(list((plant.bucket_folder / "jobs").glob("t*/spec.json"))) - before
    return Seen(n=n, figure=f"{runs} runs for {n} slots, {specs} specs", ok=runs == n == specs)


def serving_killed(plant: Plant, n: int) -> Seen:
    """The model server is away for 10 s."""
    flow, recoveries = Flow(plant), []
    for _ in range(n):
        flow.tend()
        flow.order()
        plant.end("serving")
        away = time.monotonic()
        until(lambda a=away: time.monotonic() - a > 10, 20, "10 s without a model server")
        plant.start_serving()
        recoveries.append(plant.first_commit_after(time.time()))
    found = flow.finish()
    spent = sum(plant.ledger.job(job_id).attempts_error for job_id in flow.jobs)
    return Seen(n=n, figure=f"{spent} attempts spent", ok=spent == 0, problems=found, recoveries=recoveries)


def serving_frozen(plant: Plant, n: int) -> Seen:
    """SIGSTOP to the model server: its calls end at their deadline."""
    deadline_seconds, waits, flow = 5.0, [], Flow(plant)
    for name in ("a", "b"):
        plant.worker(name, AIGC_SERVING_DEADLINE_SECONDS=str(deadline_seconds))
        plant.wait_ready(name)
    for _ in range(n):
        flow.tend()
        flow.order()
        plant.signal("serving", signal.SIGSTOP)
        frozen = time.monotonic()
        until(lambda: plant.ledger.job(flow.job_id).waiting_for, 60, "the job says what it waits for")
        waits.append(time.monotonic() - frozen)
        plant.signal("serving", signal.SIGCONT)
        plant.first_commit_after(time.time())
    found = flow.finish()
    # A chunk that was claimed just after the freeze asks later.
    ok = max(waits) <= deadline_seconds + 2
    return Seen(n=n, figure=f"calls of {deadline_seconds:g} s gave up after {max(waits):.1f} s", ok=ok, problems=found)


def model_swapped(plant: Plant, n: int) -> Seen:
    """A darker version is published in the middle of a job, which is pinned to the one before."""
    flow = Flow(plant)
    for number in range(n):
        flow.tend()
        flow.order()
        card = plant.publish_model(level=60.0 + number)
        text = f"version {card.version} loaded"
        until(lambda t=text: flow.tend() and plant.log_count("serving", t), 30, "the new version is loaded")
        flow.order()
    return Seen(n=n, figure=f"{len(flow.jobs)} jobs, all of version 1", problems=flow.finish())


PUBLISH = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from contract.serving_models import LATENT_DIM, write_onnx
from serving.contract import ModelCard
from serving.repository import publish
from workers.bootstrap import Runtime
made = Runtime.from_env()
def build(folder):
    write_onnx(folder, labels=False)
    return {{}}
def card(version):
    return ModelCard(name="exported", version=version, latent_dim=LATENT_DIM, height=8, width=8, channels=1, class_names=(),
        dataset="none", dataset_fingerprint="none", job_id="JOB", code_revision="none", created_at=0.0)
print(publish(made.settings.model_base_path, card, build, store=made.store).version)
"""


def export_killed(plant: Plant, n: int) -> Seen:
    """Killed before and after the rename that makes a version visible; then tried again by the same job."""
    folder, whole = plant.folder / "models" / "exported", 0
    for number in range(n):
        code = PUBLISH.replace("JOB", f"export-{number}")
        point = ("before_publish_rename", "after_publish_rename")[number % 2]
        died = plant.run_code(code, check=False, AIGC_FAILPOINTS=f"{point}:kill").returncode == -signal.SIGKILL
        version = int(plant.run_code(code).stdout)
        until(lambda v=version: plant.log_count("serving", f"exported version {v} loaded"), 30, "the version is loaded")
        whole += died and version == number + 1
    versions = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
    failed = plant.log_count("serving", " ERROR ")
    ok = whole == n and versions == list(range(1, n + 1)) and failed == 0
    return Seen(n=n, figure=f"{len(versions)} versions, {failed} failed loads", ok=ok)


TRAIN = f"""
from workers.producer import Producer
print(Producer.from_env().train(dataset={DATASET!r}, model="trained", preset="quick-32", steps=STEPS, minutes_max=60.0,
    checkpoint_every_steps=20, sample_every_steps=100_000))
"""


def training_killed(plant: Plant, n: int) -> Seen:
    """kill -9 of the training worker and its child after a checkpoint."""
    ensure_dataset(plant)
    job_id = plant.run_code(TRAIN.replace("STEPS", str(20 * n + 30))).stdout.strip()
    pointer = plant.bucket_folder / layout.training_prefix(job_id) / "checkpoint.json"
    killed_at, lost_steps = 0, []
    for _ in range(n):
        plant.spawn("training", [*AIGC, "worker", "training"])
        until(lambda k=killed_at: newest_step(pointer) >= k + 20, 180, "a checkpoint is written")
        plant.end("training")
        killed_at = newest_step(pointer)
        plant.read_events()
        lost_steps.append(max([step(e) for e in plant.events if e.type == "training.progress"], default=0) - killed_at)
    plant.spawn("training", [*AIGC, "worker", "training"])
    plant.wait_final(job_id, 180)
    plant.end("training")
    job = plant.ledger.job(job_id)
    versions = [path.name for path in (plant.folder / "models" / "trained").iterdir() if path.name.isdigit()]
    ok = job.state == "completed" and versions == ["1"] and max(lost_steps) <= 20 and job.attempts_lost == n
    return Seen(n=n, figure=f"{len(versions)} version, {max(0, *lost_steps)} of 20 steps lost", ok=ok)


def newest_step(pointer: Path) -> int:
    """Of the checkpoints; 0 before the first."""
    return int(json.loads(pointer.read_text())["checkpoints"][0]["step"]) if pointer.exists() else 0


def step(event: Any) -> int:
    return int(event.facts.get("step", 0))
