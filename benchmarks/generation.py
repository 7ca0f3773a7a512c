"""Pictures per second of the whole line, against the generator alone and against the textbook way, in one run.

    python -m benchmarks.generation [--count 25600] [--textbook-count 1500] [--data FOLDER]

(a) the same ONNX generator in one process, at the best of three ways to use the cores; (b) `benchmarks.textbook`;
(c) this system, from the order to the last object in S3: with an object per picture (`line`), and with a tar shard per
chunk (`packed`). Rounds of (a) and (c) alternate, since the machine drifts.

The S3 server of (b) and (c) keeps its files in memory (/dev/shm) unless --data names another folder: where S3 is elsewhere,
its disk is not what these cores wait for.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from aigc_core.jobs.specs import BATCH_ITEMS
from benchmarks.dcgan64 import LATENT_DIM, onnx_model, publish_dcgan64
from benchmarks.report import median, report
from benchmarks.stack import Stack, running
from workers.bootstrap import Runtime

if TYPE_CHECKING:
    from workers.producer import Producer

ROUNDS = 3

#: A file system without a disk.
MEMORY = Path("/dev/shm")

#: (threads of the engine, requests at once) of (a).
RAW_WAYS = ((1, 2), (2, 1), (2, 2))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=25_600)
    parser.add_argument("--textbook-count", type=int, default=1_500)
    parser.add_argument("--data", type=Path, default=MEMORY if MEMORY.exists() else None)
    options = parser.parse_args()
    model = onnx_model().SerializeToString()
    with running(options.data) as stack, tempfile.TemporaryDirectory() as folder:
        made = stack.runtime()
        publish_dcgan64(made.settings.model_base_path, store=made.store)
        producer = stack.producer()
        _line_rate(made, producer, 1_280)
        rates: dict[str, list[float]] = {"raw": [], "line": [], "packed": []}
        for _ in range(ROUNDS):
            rates["raw"].append(max(_raw_rate(model, threads=threads, requests=n) for threads, n in RAW_WAYS))
            rates["line"].append(_line_rate(made, producer, options.count))
            rates["packed"].append(_line_rate(made, producer, options.count, packing="tar"))
        textbook = _textbook_rate(stack, Path(folder), options.textbook_count)
    report(
        "generation",
        {
            **{f"{name}_images_per_second": median(found) for name, found in rates.items()},
            "textbook_images_per_second": round(textbook, 1),
            **{f"{name}_over_raw": _ratio(rates[name], rates["raw"]) for name in ("line", "packed")},
            **{f"{name}_over_textbook": round(median(rates[name]) / textbook, 2) for name in ("line", "packed")},
            "s3_data": str(options.data or "temporary folder"),
        },
    )


def _ratio(part: list[float], whole: list[float]) -> float:
    """Round by round, then the median."""
    return median([mine / theirs for mine, theirs in zip(part, whole, strict=True)])


def _raw_rate(model: bytes, *, threads: int, requests: int) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if requests > 1:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    latents = np.random.default_rng(0).standard_normal((BATCH_ITEMS, LATENT_DIM), dtype=np.float32)
    session.run(None, {"latents": latents})
    batch_count = 40
    with ThreadPoolExecutor(requests) as pool:
        started = time.perf_counter()
        list(pool.map(lambda _: session.run(None, {"latents": latents}), range(batch_count)))
    return batch_count * BATCH_ITEMS / (time.perf_counter() - started)


def _line_rate(made: Runtime, producer: "Producer", count: int, *, packing: str = "objects") -> float:
    """From the order to the commit of the last chunk, when the last object is in S3."""
    ledger = made.ledger
    position, last = ledger.last_event(), 0.0
    started = time.time()
    job_id = producer.generate(model="dcgan64", count=count, packing=packing)
    while not ledger.job(job_id).state.is_final:
        for event in ledger.events(after=position, wait_seconds=1):
            position = event.id
            if event.job_id == job_id and event.type == "chunk.completed":
                last = event.at
    return count / (last - started)


def _textbook_rate(stack: Stack, folder: Path, count: int) -> float:
    """Over the last two thirds of the objects: its workers' import of TensorFlow is not held against it."""
    build = "from benchmarks.generation import write_saved_model; write_saved_model(__import__('sys').argv[1])"
    subprocess.run([sys.executable, "-c", build, str(folder / "model")], check=True, capture_output=True)
    settings = stack.runtime().settings
    environment: dict[str, Any] = os.environ | {
        "TEXTBOOK_BROKER": settings.redis_url.get_secret_value().replace("/0", "/1"),
        "TEXTBOOK_MODEL": str(folder / "model"),
        "TEXTBOOK_S3": settings.s3_endpoint,
        "TEXTBOOK_BUCKET": settings.s3_bucket,
        "AWS_ACCESS_KEY_ID": settings.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": settings.s3_secret_key.get_secret_value(),
    }
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "benchmarks.textbook",
        "worker",
        "-c",
        str(os.cpu_count()),
        "-l",
        "ERROR",
    ]
    worker = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        order = f"from benchmarks.textbook import generate\nfor index in range({count}): generate.delay(index)"
        subprocess.run([sys.executable, "-c", order], env=environment, check=True)
        objects = stack.home / "s3" / settings.s3_bucket / "textbook"
        first_count = count // 3
        started = _when(objects, first_count)
        return (count - first_count) / (_when(objects, count) - started)
    finally:
        worker.terminate()
        worker.wait()


def _when(folder: Path, count: int) -> float:
    while not folder.exists() or len(list(folder.iterdir())) < count:
        time.sleep(0.05)  # the textbook worker has no events
    return time.perf_counter()


def write_saved_model(path: str) -> None:
    """The same generator as a SavedModel."""
    import keras

    from aigc_core.gan.networks import build_generator
    from aigc_core.jobs.specs import TrainingSpec
    from benchmarks.dcgan64 import WIDTHS
    from serving.saved_model import Served

    spec = TrainingSpec(
        model="m",
        dataset="d",
        dataset_fingerprint="f",
        preset="dcgan-64",
        size=64,
        channels=3,
        image_count=1,
        latent_dim=LATENT_DIM,
        widths=WIDTHS,
        batch_size=2,
        steps=1,
        minutes_max=1,
        learning_rate=1e-3,
        beta_1=0.0,
        penalty_weight=0.0,
        ema_half_life_images=0,
        augment_probability=0.0,
    )
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    served = Served(build_generator(spec), latent_dim=LATENT_DIM, class_count=0)
    tf.saved_model.save(served, path, signatures={"serving_default": served.serve})


if __name__ == "__main__":
    main()
