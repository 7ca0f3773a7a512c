"""From a Keras generator to a version that a model server loads: SavedModel, ONNX of the same function, warm-up records.

Everything is checked against the Keras model before anybody publishes it. The graph holds no random op: latents come from
the caller. Formula of a pixel: uint8(clip(round(127.5 x + 127.5), 0, 255)) for a generator's x in [-1, 1].
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # noqa: TID251  TensorFlow reads it when it is imported

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
from numpy.typing import NDArray

from aigc_core.errors import InvalidSpec
from serving.contract import IMAGES, LABELS, LATENTS, ONNX_PATH, SIGNATURE, WARMUP_PATH
from serving.protos import model_server_pb2 as pb
from serving.tensors import to_proto

#: Batch sizes at which both exports are compared with the Keras model.
CHECK_BATCHES = (1, 7, 64)

#: Grey levels by which an export may differ: rounding at a half goes either way.
LEVELS_MAX = 1

#: Batch sizes of the warm-up records: the workers' one, and a single picture.
WARMUP_BATCHES = (1, 64)

#: The newest operator set that tf2onnx converts to and ONNX Runtime runs without a warning.
OPSET = 18

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """Largest differences to the Keras model, in grey levels, and the files' sizes."""

    saved_model_levels: int
    onnx_levels: int
    onnx_bytes: int

    def figures(self) -> dict[str, float]:
        """For the model card."""
        return {
            "export_saved_model_levels": self.saved_model_levels,
            "export_onnx_levels": self.onnx_levels,
            "export_onnx_bytes": self.onnx_bytes,
        }


class Served(tf.Module):
    """The served function: latents float32 (N, D)[, labels int32 (N,)] → uint8 (N, H, W, C)."""

    def __init__(self, generator: keras.Model, *, latent_dim: int, class_count: int) -> None:
        super().__init__()
        self._generator = generator
        specs = [tf.TensorSpec((None, latent_dim), tf.float32, LATENTS)]
        if class_count:
            specs.append(tf.TensorSpec((None,), tf.int32, LABELS))
        self.input_signature = specs
        self.serve = tf.function(self._serve, input_signature=specs)

    def _serve(self, latents: tf.Tensor, labels: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        pixels = self._generator(latents if labels is None else [latents, labels], training=False)
        # Four axes: tf2onnx cannot move its transposes past the addition of a scalar. The product first: TensorFlow's
        # optimiser takes an addition right behind a convolution for its bias.
        half = tf.fill((1, 1, 1, 1), 127.5)
        levels = tf.round(pixels * half + half)
        levels = tf.clip_by_value(levels, 0.0, 255.0)
        return {IMAGES: tf.cast(levels, tf.uint8, name=IMAGES)}


def export_generator(generator: keras.Model, version_dir: Path, *, latent_dim: int, class_count: int) -> ExportReport:
    """Write SavedModel, ONNX and warm-up records into `version_dir` and check them.

    `generator`: latents float32 (N, latent_dim)[, labels int32 (N,) where class_count > 0] → pixels float32 (N, H, W, C)
    around [-1, 1]. `InvalidSpec` when an export differs by more than LEVELS_MAX grey levels: it must not be served.
    """
    served = Served(generator, latent_dim=latent_dim, class_count=class_count)
    tf.saved_model.save(served, str(version_dir), signatures={SIGNATURE: served.serve})
    onnx_path = version_dir / ONNX_PATH
    onnx_path.parent.mkdir(parents=True, exist_ok=True)
    write_onnx(served, onnx_path)
    write_warmup(version_dir, latent_dim=latent_dim, class_count=class_count)
    report = ExportReport(
        saved_model_levels=_saved_model_levels(generator, version_dir, latent_dim, class_count=class_count),
        onnx_levels=_onnx_levels(generator, onnx_path, latent_dim, class_count=class_count),
        onnx_bytes=onnx_path.stat().st_size,
    )
    for name, levels in (("SavedModel", report.saved_model_levels), ("ONNX model", report.onnx_levels)):
        if levels > LEVELS_MAX:
            raise InvalidSpec(
                f"the {name} differs from the Keras generator by {levels} grey levels, at most {LEVELS_MAX} is allowed; "
                "nothing was published: the versions of tensorflow, tf2onnx and onnxruntime do not fit this network"
            )
    return report


def write_onnx(served: Served, path: Path) -> None:
    """Convert the served function; its inputs and its output keep the names of the contract."""
    converted, _ = tf2onnx.convert.from_function(served.serve, input_signature=served.input_signature, opset=OPSET)
    names = {output.name: IMAGES for output in converted.graph.output}
    for node in converted.graph.node:
        for outputs in (node.output, node.input):
            for position, name in enumerate(outputs):
                outputs[position] = names.get(name, name)
    converted.graph.output[0].name = IMAGES
    onnx.checker.check_model(converted)
    path.write_bytes(converted.SerializeToString())


def write_warmup(version_dir: Path, *, latent_dim: int, class_count: int) -> None:
    """Predict requests that a server replays while it loads the version."""
    path = version_dir / WARMUP_PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for count in WARMUP_BATCHES:
            log = pb.PredictionLog()
            request = log.predict_log.request
            request.model_spec.signature_name = SIGNATURE
            for name, array in _sample(count, latent_dim, class_count).items():
                request.inputs[name].CopyFrom(to_proto(array))
            writer.write(log.SerializeToString())


def _sample(count: int, latent_dim: int, class_count: int) -> Arrays:
    """Fixed inputs of a batch."""
    random = np.random.default_rng(count)
    arrays: Arrays = {LATENTS: random.standard_normal((count, latent_dim), dtype=np.float32)}
    if class_count:
        arrays[LABELS] = np.arange(count, dtype=np.int32) % class_count
    return arrays


def _keras_images(generator: keras.Model, inputs: Arrays) -> NDArray[np.uint8]:
    """What the generator itself makes of the inputs, by the formula above in NumPy."""
    given = [inputs[LATENTS], inputs[LABELS]] if LABELS in inputs else inputs[LATENTS]
    pixels = np.asarray(generator(given, training=False))
    return np.clip(np.round(pixels * np.float32(127.5) + np.float32(127.5)), 0, 255).astype(np.uint8)


def _levels(expected: NDArray[np.uint8], images: NDArray[Any]) -> int:
    if images.shape != expected.shape or images.dtype != np.uint8:
        raise InvalidSpec(f"the export makes {images.dtype} {images.shape}, the Keras generator uint8 {expected.shape}")
    return int(np.abs(images.astype(np.int16) - expected).max())


def _saved_model_levels(generator: keras.Model, version_dir: Path, latent_dim: int, *, class_count: int) -> int:
    loaded = tf.saved_model.load(str(version_dir))
    function = loaded.signatures[SIGNATURE]
    differences = []
    for count in CHECK_BATCHES:
        inputs = _sample(count, latent_dim, class_count)
        answer = function(**{name: tf.constant(array) for name, array in inputs.items()})
        differences.append(_levels(_keras_images(generator, inputs), answer[IMAGES].numpy()))
    return max(differences)


def _onnx_levels(generator: keras.Model, path: Path, latent_dim: int, *, class_count: int) -> int:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    differences = []
    for count in CHECK_BATCHES:
        inputs = _sample(count, latent_dim, class_count)
        differences.append(_levels(_keras_images(generator, inputs), session.run([IMAGES], inputs)[0]))
    return max(differences)
