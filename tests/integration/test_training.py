"""Training and export with the real TensorFlow, on networks of a few filters."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_training_spec

from aigc_core.clock import SystemClock
from aigc_core.datasets.card import DatasetCard
from aigc_core.datasets.shards import write_card, write_shards
from aigc_core.errors import InvalidSpec
from aigc_core.jobs.specs import TrainingSpec
from aigc_core.storage import layout
from aigc_core.storage.memory import MemoryObjectStore
from serving.repository import list_models

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

CLASSES = ("a", "b", "c")


def pictures(spec: TrainingSpec) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (spec.image_count, spec.size, spec.size, spec.channels), dtype=np.uint8)
    return images, (random.integers(0, len(CLASSES), spec.image_count).astype(np.int32) if spec.class_names else None)


def stored_dataset(store: MemoryObjectStore, spec: TrainingSpec) -> TrainingSpec:
    """Store the pictures of the spec as a data set; the spec that names it."""
    images, labels = pictures(spec)
    if labels is None:
        labels = np.zeros(len(images), np.int32)
    prefix = layout.dataset_prefix(spec.dataset, spec.dataset_fingerprint)
    shards = write_shards(store, prefix, images, labels)
    card = DatasetCard(
        name=spec.dataset, fingerprint=spec.dataset_fingerprint, source="", size=spec.size, channels=spec.channels,
        class_names=spec.class_names, class_counts={}, kept_count=len(images), exact_duplicate_count=0,
        perceptual_duplicate_count=0, blank_count=0, broken_count=0, skipped_count=0, created_at=0.0, shards=shards,
    )  # fmt: skip
    write_card(store, card)
    return spec


def run(spec: TrainingSpec, store: MemoryObjectStore, stop_after: int | None = None) -> Any:
    """Train; with `stop_after` the run is asked to stop after so many steps."""
    from aigc_core.gan.loop import train

    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return stop_after is not None and asked > stop_after

    images, labels = pictures(spec)
    return train(
        spec,
        images,
        labels,
        store=store,
        prefix="t/",
        should_stop=should_stop,
        on_progress=lambda _: None,
        clock=SystemClock(),
    )


def weights(result: Any) -> str:
    return hashlib.sha256(b"".join(np.asarray(v).tobytes() for v in result.generator.variables)).hexdigest()


def test_a_run_that_was_stopped_and_resumed_has_the_same_weights_as_one_that_was_not() -> None:
    spec = a_training_spec(steps=6, class_names=CLASSES, augment_probability=0.5)
    whole = run(spec, MemoryObjectStore())
    store = MemoryObjectStore()
    assert run(spec, store, stop_after=3).stopped
    resumed = run(spec, store)
    assert (resumed.step, resumed.stopped) == (6, False)
    assert weights(resumed) == weights(whole)


def test_a_run_leaves_sheets_and_metrics_that_are_readable_without_us() -> None:
    store = MemoryObjectStore()
    run(a_training_spec(steps=4, sample_every_steps=2), store)
    assert store.get("t/samples/0000002.png").startswith(b"\x89PNG")
    lines = [json.loads(line) for line in store.get("t/metrics.jsonl").decode().splitlines()]
    assert lines[-1]["step"] == 4
    assert np.isfinite(lines[-1]["discriminator_loss"])


def test_labels_that_do_not_fit_the_spec_are_refused() -> None:
    from aigc_core.gan.loop import train

    spec = a_training_spec(class_names=CLASSES)
    images, labels = pictures(spec)
    quiet: dict[str, Any] = {
        "store": MemoryObjectStore(), "prefix": "t/", "should_stop": lambda: False, "on_progress": lambda _: None,
        "clock": SystemClock(),
    }  # fmt: skip
    with pytest.raises(InvalidSpec, match="labels"):
        train(spec, images, None, **quiet)
    with pytest.raises(InvalidSpec, match="labels"):
        train(spec, images, labels + 1, **quiet)
    with pytest.raises(InvalidSpec, match="pictures"):
        train(spec, images[:, :16], labels, **quiet)


def test_the_losses_are_ln_2_at_equal_logits_and_the_penalty_of_a_linear_judge_is_its_squared_weight() -> None:
    import tensorflow as tf

    from aigc_core.gan.losses import discriminator_loss, generator_loss, gradient_penalty

    logits = tf.constant([0.3, -2.0])
    assert float(discriminator_loss(logits, logits)) == pytest.approx(np.log(2), abs=1e-6)
    assert float(generator_loss(logits + 5, logits + 5)) == pytest.approx(np.log(2), abs=1e-6)
    weight = tf.random.stateless_normal([4, 4, 3], [1, 2])
    _, penalty = gradient_penalty(lambda x: tf.reduce_sum(x * weight, axis=[1, 2, 3]), tf.zeros([5, 4, 4, 3]))
    assert float(penalty) == pytest.approx(float(tf.reduce_sum(weight**2)), rel=1e-5)


def test_augmentation_at_probability_0_is_the_very_picture() -> None:
    import tensorflow as tf

    from aigc_core.gan.augment import augment

    pixels = tf.random.stateless_normal([4, 8, 8, 3], [0, 0])
    assert augment(pixels, 0.0, seed=tf.constant([0, 1])) is pixels
    changed = augment(pixels, 1.0, seed=tf.constant([0, 1]))
    assert float(tf.reduce_max(tf.abs(changed - pixels))) > 0.1


@pytest.mark.parametrize("class_names", [(), CLASSES])
def test_an_export_is_the_generator_within_one_grey_level_and_has_no_random_op(
    tmp_path: Path, class_names: tuple[str, ...]
) -> None:
    import tensorflow as tf

    from aigc_core.gan.networks import build_generator
    from serving.saved_model import export_generator

    spec = a_training_spec(class_names=class_names, channels=3)
    report = export_generator(build_generator(spec), tmp_path, latent_dim=8, class_count=len(class_names))
    assert max(report.saved_model_levels, report.onnx_levels) <= 1
    loaded = tf.saved_model.load(str(tmp_path))
    graph = loaded.signatures["serving_default"].graph.as_graph_def()
    operations = [node.op for function in graph.library.function for node in function.node_def]
    assert operations
    assert not [name for name in operations if "Random" in name]
    assert "_XlaMustCompile" not in str(graph)


def test_a_training_job_that_runs_twice_publishes_one_version(tmp_path: Path) -> None:
    from workers.bootstrap import Runtime
    from workers.settings import Settings
    from workers.training_child import train_and_publish

    runtime = Runtime(Settings(model_base_path=tmp_path))
    runtime.store = store = MemoryObjectStore()  # type: ignore[assignment]
    spec = stored_dataset(store, a_training_spec(steps=1))
    progress: list[Any] = []
    facts = [
        train_and_publish("job", spec, runtime=runtime, stop=threading.Event(), answer=progress.append) for _ in range(2)
    ]
    assert [fact["version"] for fact in facts] == [1, 1]
    assert [(card.version, card.job_id) for card in list_models(store)] == [(1, "job")]
    reported = len(progress)
    train_and_publish("job", spec, runtime=runtime, stop=threading.Event(), answer=progress.append)
    assert len(progress) == reported  # it was not trained again either


def test_an_export_that_differs_by_more_than_is_allowed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aigc_core.gan.networks import build_generator
    from serving import saved_model

    monkeypatch.setattr(saved_model, "LEVELS_MAX", -1)  # no real export is that wrong
    with pytest.raises(InvalidSpec, match="nothing was published"):
        saved_model.export_generator(build_generator(a_training_spec()), tmp_path, latent_dim=8, class_count=0)
