"""Pictures per second of the whole line, against the generator alone and against the textbook way, in one run.

    python -m benchmarks.generation [--count 6400] [--textbook-count 300]

(a) the same ONNX generator in one process, at the best of three ways to use the cores; (b) `benchmarks.textbook`;
(c) this system, from the order to the last object in S3. Rounds of (a) and (c) alternate, since the machine drifts.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from aigc_core.jobs.specs import BATCH_ITEMS
from benchmarks.dcgan64 import LATENT_DIM, onnx_model, publish_dcgan64
from benchmarks.report import median, report
from benchmarks.stack import Stack, running

ROUNDS = 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=6400)
    parser.add_argument("--textbook-count", type=int, default=300)
    counts = parser.parse_args()
    model = onnx_model().SerializeToString()
    with running() as stack, tempfile.TemporaryDirectory() as folder:
        made = stack.runtime()
        publish_dcgan64(made.settings.model_base_path, store=made.store)
        stack.run("generate", "--model", "dcgan64", "--count", "640", "--wait")
        raw: list[float] = []
        line: list[float] = []
        for _ in range(ROUNDS):
            raw.append(max(_raw_rate(model, threads=threads, requests=n) for threads, n in ((1, 2), (2, 1), (2, 2))))
            line.append(_line_rate(stack, counts.count))
        textbook = _textbook_rate(stack, Path(folder), counts.textbook_count)
    report(
        "generation",
        {
            "raw_images_per_second": median(raw),
            "textbook_images_per_second": round(textbook, 1),
            "line_images_per_second": median(line),
            "line_over_raw": median([whole / alone for whole, alone in zip(line, raw, strict=True)]),
            "line_over_textbook": round(median(line) / textbook, 2),
        },
    )


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


def _line_rate(stack: Stack, count: int) -> float:
    """From before the order's process starts to the commit of the last chunk, when the last object is in S3."""
    made = stack.runtime()
    started = time.time()
    job_id = stack.run("generate", "--model", "dcgan64", "--count", str(count)).split()[0]
    position, last = "0", 0.0
    while not made.ledger.job(job_id).state.is_final:
        for event in made.ledger.events(after=position, wait_seconds=1):
            position = event.id
            if event.job_id == job_id and event.type == "chunk.completed":
                last = event.at
    for event in made.ledger.events(after=position, wait_seconds=0.1):
        if event.job_id == job_id and event.type == "chunk.completed":
            last = event.at
    return count / (last - started)


def _textbook_rate(stack: Stack, folder: Path, count: int) -> float:
    """Between the 10 % and the last object: its workers' import of TensorFlow is not held against it."""
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
        first_count = count // 10
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
