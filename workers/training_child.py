"""One training run in a process of its own: load the data, train, export, check, publish. Started by `workers.training`."""

import json
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from aigc_core.datasets.shards import load_dataset
from aigc_core.errors import AigcError, Cancelled
from aigc_core.jobs.specs import TrainingSpec
from aigc_core.storage import layout
from serving.contract import ModelCard
from serving.repository import publish, published_by
from workers.bootstrap import Runtime


def main() -> int:
    """Read the order from standard input, answer in JSON lines on standard output."""
    # Libraries print to standard output; the answers keep a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    order = json.loads(sys.stdin.readline())
    _die_with_parent()

    def answer(facts: dict[str, Any]) -> None:
        answers.write(json.dumps(facts) + "\n")

    try:
        spec = TrainingSpec.from_json(order["spec"])
        runtime = Runtime.from_env()
        answer({"published": train_and_publish(order["job_id"], spec, runtime=runtime, stop=stop, answer=answer)})
    except AigcError as error:
        answer({"error": str(error), "class": type(error).__name__})
    except MemoryError:
        text = "out of memory while training; try a smaller batch or a machine with more"
        answer({"error": text, "class": "Transient"})
    except Exception as error:
        first_line = str(error).splitlines()[0] if str(error) else ""
        answer({"error": f"{type(error).__name__}: {first_line}", "class": "Transient"})
        raise
    return 0


def train_and_publish(
    job_id: str, spec: TrainingSpec, *, runtime: Runtime, stop: threading.Event, answer: Any
) -> dict[str, Any]:
    """Train, export beside, check, rename; the facts of the published version. `Cancelled` when stopped before its end.

    A job whose version is there already, because its worker died before it could say so, is not trained again.
    """
    if (published := published_by(runtime.store, spec.model, job_id)) is not None:
        return _facts(published)
    from aigc_core.gan.loop import train  # TensorFlow: after the order is read, so a bad one fails at once
    from serving.saved_model import export_generator

    _, images, labels = load_dataset(runtime.store, spec.dataset, spec.dataset_fingerprint)
    result = train(
        spec,
        images,
        labels if spec.class_names else None,
        store=runtime.store,
        prefix=layout.training_prefix(job_id),
        should_stop=stop.is_set,
        on_progress=lambda progress: answer({"progress": progress.facts()}),
        clock=runtime.clock,
    )
    if result.stopped:
        raise Cancelled(f"stopped at step {result.step}; a checkpoint is kept")
    figures = {"steps": result.step, "seconds": result.seconds, "images_per_second": result.images_per_second}

    def build(version_dir: Path) -> dict[str, float]:
        report = export_generator(
            result.generator, version_dir, latent_dim=spec.latent_dim, class_count=len(spec.class_names)
        )
        return {**figures, **report.figures()}

    settings = runtime.settings
    card_of = partial(_card, job_id=job_id, spec=spec, runtime=runtime)
    published = publish(
        settings.model_base_path, card_of, build, store=runtime.store, server_base_path=settings.serving_base_path
    )
    return _facts(published)


def _card(version: int, *, job_id: str, spec: TrainingSpec, runtime: Runtime) -> ModelCard:
    """The card of the job's version, without its figures."""
    return ModelCard(
        name=spec.model,
        version=version,
        latent_dim=spec.latent_dim,
        height=spec.size,
        width=spec.size,
        channels=spec.channels,
        class_names=spec.class_names,
        dataset=spec.dataset,
        dataset_fingerprint=spec.dataset_fingerprint,
        job_id=job_id,
        code_revision=runtime.settings.code_revision,
        created_at=runtime.clock.now(),
        spec=json.loads(spec.to_json()),
    )


def _facts(published: ModelCard) -> dict[str, Any]:
    return {"model": published.name, "version": published.version, **published.figures}


def _die_with_parent() -> None:
    """Linux: a training whose worker was killed must not run on beside the one that replaces it."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
