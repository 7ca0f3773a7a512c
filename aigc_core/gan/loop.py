"""The training loop: pictures in, the generator's running average out. It knows no scheduler, no queue and no process.

A run is a function of its spec and its pictures: batches, latents and augmentations come from (seed, step), so a run that
was stopped and resumed from its checkpoint takes the same steps as one that was not.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # noqa: TID251  TensorFlow reads it when it is imported

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from aigc_core.clock import Clock
from aigc_core.errors import InvalidSpec, Transient
from aigc_core.gan.batches import batch_indices
from aigc_core.gan.checkpoint import Progressed, load_checkpoint, save_checkpoint
from aigc_core.gan.samples import sample_sheet
from aigc_core.gan.step import Networks, build_networks, compile_step
from aigc_core.jobs.specs import TrainingSpec
from aigc_core.storage.object_store import ObjectStore

#: Seconds between two progress reports.
REPORT_SECONDS = 2.0

#: Part of the pictures seen so far over which the running average halves at most: early weights must not linger.
AVERAGE_RAMP = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is. Losses are means over the batch of the last step; both hover about ln 2 in a healthy run."""

    step: int
    steps: int
    share: float  # of the run, in [0, 1], by steps or by time, whichever is nearer its end
    seconds: float  # of training, over all resumes
    images_per_second: float
    discriminator_loss: float
    generator_loss: float
    penalty: float  # mean squared gradient of the discriminator, real and fake

    def facts(self) -> dict[str, float]:
        """For an event."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a run made."""

    generator: keras.Model  # the running average
    step: int
    seconds: float
    images_per_second: float
    stopped: bool  # should_stop ended it: it is not complete, a checkpoint is kept


def train(
    spec: TrainingSpec,
    images: NDArray[np.uint8],
    labels: NDArray[np.int32] | None,
    *,
    store: ObjectStore,
    prefix: str,
    should_stop: Callable[[], bool],
    on_progress: Callable[[Progress], None],
    clock: Clock,
) -> TrainingResult:
    """Train until `steps`, `minutes_max` or `should_stop`, going on from the newest checkpoint under `prefix`.

    images: uint8 (N, size, size, channels); labels: int32 (N,) in [0, classes), None without classes. Checkpoints,
    sample sheets (`samples/`) and `metrics.jsonl` go to `store` under `prefix`. `InvalidSpec` for pictures that do not
    fit the spec, `Transient` when a loss is not finite: the last checkpoint is from before it.
    """
    _check(spec, images, labels)
    given = np.zeros(len(images), np.int32) if labels is None else labels
    networks = build_networks(spec)
    record = _Record(spec, networks, store=store, prefix=prefix)
    progressed = record.load()
    step_function = compile_step(spec, networks)
    started, reported_at, first_step = clock.monotonic(), clock.monotonic(), progressed.step
    before_seconds, step = progressed.seconds, progressed.step
    rate_from, rate_step = started, step  # the rate leaves the first step, which compiles, out
    stopped = False
    while step < spec.steps and not (stopped := should_stop()):
        seconds = before_seconds + clock.monotonic() - started
        if seconds >= spec.minutes_max * 60:
            break
        chosen = batch_indices(step, seed=spec.seed, batch_size=spec.batch_size, image_count=len(images))
        decay = average_decay(step * spec.batch_size, spec)
        losses = step_function(images[chosen], given[chosen], tf.constant(step), tf.constant(decay, tf.float32))
        step += 1
        if step == first_step + 1:
            rate_from, rate_step = clock.monotonic(), step
        now = clock.monotonic()
        last = step == spec.steps
        if now - reported_at >= REPORT_SECONDS or last or step % spec.checkpoint_every_steps == 0:
            reported_at = now
            rate = (step - rate_step) * spec.batch_size / max(now - rate_from, 1e-9)
            progress = _progress(spec, step, before_seconds + now - started, rate, losses)
            record.note(progress)
            on_progress(progress)
        if step % spec.sample_every_steps == 0:
            record.sample(step)
        if step % spec.checkpoint_every_steps == 0:
            record.save(replace(progressed, step=step, seconds=before_seconds + now - started))
    seconds = before_seconds + clock.monotonic() - started
    record.save(replace(progressed, step=step, seconds=seconds))
    record.sample(step)
    rate = (step - rate_step) * spec.batch_size / max(clock.monotonic() - rate_from, 1e-9)
    return TrainingResult(generator=networks.average, step=step, seconds=seconds, images_per_second=rate, stopped=stopped)


def average_decay(images_seen: int, spec: TrainingSpec) -> float:
    """The running average's weight of the old value for one batch: 0.5^(batch / half-life), with the half-life ramped up.

    Source: the half-life form of the exponential moving average in Karras et al., arXiv 2006.06676.
    """
    half_life = min(spec.ema_half_life_images, AVERAGE_RAMP * images_seen)
    return 0.5 ** (spec.batch_size / half_life) if half_life > 0 else 0.0


class _Record:
    """What a run leaves in the store."""

    def __init__(self, spec: TrainingSpec, networks: Networks, *, store: ObjectStore, prefix: str) -> None:
        self._spec, self._networks, self._store, self._prefix = spec, networks, store, prefix
        self._lines: list[str] = []
        self._spec_sha256 = hashlib.sha256(spec.to_json().encode()).hexdigest()

    def load(self) -> Progressed:
        """Put the newest checkpoint's values into the networks; a fresh start where there is none."""
        found = load_checkpoint(store=self._store, prefix=self._prefix, spec_sha256=self._spec_sha256)
        if found is None:
            return Progressed(step=0, seconds=0.0, spec_sha256=self._spec_sha256)
        variables = self._networks.variables()
        if set(variables) != set(found.arrays):
            raise InvalidSpec("the checkpoint is of other networks; train under a new job instead")
        for name, variable in variables.items():
            variable.assign(found.arrays[name])
        metrics = f"{self._prefix}metrics.jsonl"
        if self._store.exists(metrics):
            lines = self._store.get(metrics).decode().splitlines()
            self._lines = [line for line in lines if json.loads(line)["step"] <= found.progressed.step]
        return found.progressed

    def save(self, progressed: Progressed) -> None:
        """Checkpoint and metrics; refuses weights that are not finite."""
        arrays = {name: np.asarray(variable) for name, variable in self._networks.variables().items()}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise Transient(f"weights are not finite at step {progressed.step}; lower learning_rate or raise penalty_weight")
        save_checkpoint(progressed, arrays, store=self._store, prefix=self._prefix)
        text = "".join(line + "\n" for line in self._lines).encode()
        self._store.put(f"{self._prefix}metrics.jsonl", text, content_type="application/x-ndjson")

    def note(self, progress: Progress) -> None:
        """Keep a line of metrics."""
        self._lines.append(json.dumps(progress.facts()))

    def sample(self, step: int) -> None:
        """Store a sheet of the running average."""
        sheet = sample_sheet(self._networks.average, self._spec)
        self._store.put(f"{self._prefix}samples/{step:07d}.png", sheet, content_type="image/png")


def _progress(spec: TrainingSpec, step: int, seconds: float, rate: float, losses: Any) -> Progress:
    discriminator, generator, penalty = (float(loss) for loss in losses)
    if not np.isfinite([discriminator, generator, penalty]).all():
        raise Transient(f"a loss is not finite at step {step}; lower learning_rate or raise penalty_weight")
    return Progress(
        step=step,
        steps=spec.steps,
        share=min(1.0, max(step / spec.steps, seconds / (spec.minutes_max * 60))),
        seconds=seconds,
        images_per_second=rate,
        discriminator_loss=discriminator,
        generator_loss=generator,
        penalty=penalty,
    )


def _check(spec: TrainingSpec, images: NDArray[np.uint8], labels: NDArray[np.int32] | None) -> None:
    expected = (len(images), spec.size, spec.size, spec.channels)
    if images.dtype != np.uint8 or images.shape != expected or not len(images):
        raise InvalidSpec(f"pictures are {images.dtype} {images.shape}, the spec says uint8 {expected}; ingest them again")
    if (labels is None) == bool(spec.class_names):
        raise InvalidSpec("labels: expected them exactly when the spec names classes")
    if labels is not None and (len(labels) != len(images) or labels.min() < 0 or labels.max() >= len(spec.class_names)):
        raise InvalidSpec(f"labels: expected {len(images)} of them in [0, {len(spec.class_names)})")
