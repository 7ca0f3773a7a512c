"""The two networks of a run: a transposed-convolution generator and a projection discriminator.

Neither normalises over a batch: a picture never depends on the others of its batch, and the running average of the
weights (EMA) is a complete generator. Pixels are float32 in [-1, 1] on the inside; the generator has no tanh, so its
output may leave that range and is clipped where it is shown or served.
"""

import math
from typing import Any

import keras
import numpy as np

from aigc_core.errors import InvalidSpec
from aigc_core.jobs.specs import TrainingSpec

#: Pixels, width and height, of the generator's first feature maps.
BASE_SIZE = 4

#: Slope of the leaky rectifier for negative inputs, the customary 0.2.
SLOPE = 0.2

#: The discriminator has one feature map for each two of the generator, at least this many. At 64×64 a discriminator as
#: wide as the generator takes two thirds of the step; half as wide it takes a third, with no loss seen in short runs.
DISCRIMINATOR_WIDTH_MIN = 16

#: Numbers that stand for a class at the generator's input.
CLASS_FEATURES = 64


def build_generator(spec: TrainingSpec, *, name: str = "generator") -> keras.Model:
    """A model of (latents float32 (N, latent_dim)[, labels int32 (N,)]) → pixels float32 (N, size, size, channels).

    Latents are N(0, 1); pixels aim at [-1, 1]. Each stage doubles width and height: 4×4 transposed convolution of
    stride 2, as in DCGAN (Radford et al., arXiv 1511.06434), without its batch normalisation.
    """
    check_widths(spec)
    latents = keras.Input((spec.latent_dim,), dtype="float32", name="latents")
    inputs: Any = latents
    start = latents
    if spec.class_names:
        labels = keras.Input((), dtype="int32", name="labels")
        classes = keras.layers.Embedding(
            len(spec.class_names), CLASS_FEATURES, embeddings_initializer=_normal(1.0, spec, 0), name="class_features"
        )(labels)
        start = keras.layers.Concatenate(name="latents_and_class")([latents, classes])
        inputs = [latents, labels]
    first, fan_in = spec.widths[0], start.shape[-1]
    hidden = keras.layers.Dense(
        BASE_SIZE * BASE_SIZE * first, kernel_initializer=_normal(_he(fan_in), spec, 1), name="base"
    )(start)
    hidden = keras.layers.Reshape((BASE_SIZE, BASE_SIZE, first), name="base_maps")(hidden)
    for stage, width in enumerate((*spec.widths[1:], spec.channels)):
        hidden = keras.layers.LeakyReLU(SLOPE, name=f"rectify_{stage}")(hidden)
        kept = _he(hidden.shape[-1])
        if spec.pixel_norm:
            hidden = PixelNorm(name=f"normalise_{stage}")(hidden)
            kept = math.sqrt(1 / hidden.shape[-1])
        deviation = math.sqrt(0.1 / hidden.shape[-1]) if stage == len(spec.widths) - 1 else kept
        hidden = keras.layers.Conv2DTranspose(
            width, 4, strides=2, padding="same", kernel_initializer=SmoothUpsampling(deviation, _stream(spec, 2 + stage)),
            name=f"upsample_{stage}",
        )(hidden)  # fmt: skip
    return keras.Model(inputs, hidden, name=name)


def build_discriminator(spec: TrainingSpec) -> keras.Model:
    """A model of (pixels float32 (N, size, size, channels)[, labels int32 (N,)]) → logits float32 (N,).

    With classes the logit is w·h + <e(label), h>, the projection discriminator (Miyato and Koyama, arXiv 1802.05637).
    """
    check_widths(spec)
    pixels = keras.Input((spec.size, spec.size, spec.channels), dtype="float32", name="pixels")
    hidden = pixels
    widths = [max(DISCRIMINATOR_WIDTH_MIN, width // 2) for width in reversed(spec.widths)]
    for stage, width in enumerate(widths):
        hidden = keras.layers.Conv2D(
            width, 4, strides=2, padding="same",
            kernel_initializer=_normal(_he(16 * hidden.shape[-1]), spec, 20 + stage), name=f"downsample_{stage}",
        )(hidden)  # fmt: skip
        hidden = keras.layers.LeakyReLU(SLOPE, name=f"rectify_{stage}")(hidden)
    hidden = keras.layers.Flatten(name="flatten")(hidden)
    features = widths[-1]
    hidden = keras.layers.Dense(features, kernel_initializer=_normal(_he(hidden.shape[-1]), spec, 40), name="features")(
        hidden
    )
    hidden = keras.layers.LeakyReLU(SLOPE, name="rectify_features")(hidden)
    logits = keras.layers.Dense(1, kernel_initializer=_normal(1 / math.sqrt(features), spec, 41), name="logit")(hidden)
    inputs: Any = pixels
    if spec.class_names:
        labels = keras.Input((), dtype="int32", name="labels")
        classes = keras.layers.Embedding(
            len(spec.class_names), features, embeddings_initializer=_normal(1 / math.sqrt(features), spec, 42),
            name="class_direction",
        )(labels)  # fmt: skip
        logits = keras.layers.Add(name="logit_and_class")([logits, keras.layers.Dot(1, name="project")([hidden, classes])])
        inputs = [pixels, labels]
    return keras.Model(inputs, keras.layers.Reshape((), name="logits")(logits), name="discriminator")


@keras.saving.register_keras_serializable(package="aigc")
class PixelNorm(keras.layers.Layer):
    """x / sqrt(mean over the feature maps of x²) at every pixel (Karras et al., arXiv 1710.10196, section 4.2).

    Without it a generator of few steps is a sum of filtered noise: strong features drown weak ones at every pixel alike.
    No statistics of a batch, so a picture still depends on its own latents alone.
    """

    def call(self, features: Any) -> Any:
        """float32 (N, H, W, maps) → the same shape, mean square 1 over the maps."""
        return features * keras.ops.rsqrt(keras.ops.mean(keras.ops.square(features), axis=-1, keepdims=True) + 1e-8)


class SmoothUpsampling(keras.initializers.Initializer):
    """A 4×4 kernel of a stride of 2 that starts as linear interpolation of randomly mixed feature maps.

    A generator of independent taps starts as noise of the highest frequency, and a short run spends most of its time on
    unlearning it. Source of the taps: linear interpolation by 2 is convolution with [1, 3, 3, 1] / 4 along each axis.
    """

    def __init__(self, deviation: float, seed: int) -> None:
        self.deviation, self.seed = deviation, seed

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """float32 (4, 4, maps out, maps in), the layout of Conv2DTranspose."""
        taps = np.outer([0.25, 0.75, 0.75, 0.25], [0.25, 0.75, 0.75, 0.25])
        mixing = np.random.default_rng(self.seed).normal(scale=self.deviation, size=shape[2:])
        return keras.ops.convert_to_tensor(taps[:, :, None, None] * mixing, dtype=dtype or "float32")

    def get_config(self) -> dict[str, Any]:
        return {"deviation": self.deviation, "seed": self.seed}


def check_widths(spec: TrainingSpec) -> None:
    """Refuse a size that the stages cannot reach by doubling from 4×4."""
    reached = BASE_SIZE * 2 ** len(spec.widths)
    if reached != spec.size:
        raise InvalidSpec(
            f"widths {spec.widths}: {len(spec.widths)} stages make {reached}×{reached} pictures, but size is {spec.size}; "
            "give one width per doubling from 4×4"
        )


def _he(fan_in: int) -> float:
    """Deviation that keeps the variance through a leaky rectifier (He et al., arXiv 1502.01852)."""
    return math.sqrt(2 / ((1 + SLOPE**2) * fan_in))


def _normal(deviation: float, spec: TrainingSpec, stream: int) -> keras.Initializer:
    """A normal initialiser whose draw is a function of the spec's seed and the layer."""
    return keras.initializers.RandomNormal(stddev=deviation, seed=_stream(spec, stream))


def _stream(spec: TrainingSpec, stream: int) -> int:
    """A seed of its own for each layer."""
    return (spec.seed * 64 + stream) % 2**31
