"""One training step as one compiled function: the discriminator, then the generator, then the running average."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from aigc_core.gan.augment import augment
from aigc_core.gan.losses import discriminator_loss, generator_loss, gradient_penalty
from aigc_core.gan.state import TrainingState
from aigc_core.jobs.specs import TrainingSpec

#: Streams of random numbers per step; a seed is (seed of the run, step × this + stream).
_STREAMS = 4
_LATENTS, _REAL, _FAKE, _FAKE_AGAIN = range(_STREAMS)

#: (pictures uint8 (B, H, W, C), labels int32 (B,), step int32 (), seed int32 (), ema_keep float32 ()) → losses
#: float32 (3,): discriminator, generator, penalty before its weight.
Step = Callable[..., tf.Tensor]


def compile_step(state: TrainingState, spec: TrainingSpec, *, jit_compile: bool) -> Step:
    """The step of this state. It is a function of its arguments and the state's variables: no hidden generator."""
    generator, discriminator = state.generator, state.discriminator
    fixed = (spec.batch_size, spec.size, spec.size, spec.channels)

    def inputs(tensor: tf.Tensor, labels: tf.Tensor) -> Any:
        return [tensor, labels] if spec.class_names else tensor

    @tf.function(
        jit_compile=jit_compile,
        autograph=False,
        input_signature=[
            tf.TensorSpec(fixed, tf.uint8), tf.TensorSpec([spec.batch_size], tf.int32), tf.TensorSpec([], tf.int32),
            tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.float32),
        ],
    )  # fmt: skip
    def step(pictures: tf.Tensor, labels: tf.Tensor, number: tf.Tensor, seed: tf.Tensor, ema_keep: tf.Tensor) -> Any:
        def key(stream: int) -> tf.Tensor:
            return tf.stack([seed, number * _STREAMS + stream])

        def judge(pixels: tf.Tensor, stream: int) -> tf.Tensor:
            augmented = augment(pixels, spec.augment_probability, seed=key(stream))
            return discriminator(inputs(augmented, labels), training=True)

        real = tf.cast(pictures, tf.float32) / 127.5 - 1.0
        latents = tf.random.stateless_normal([spec.batch_size, spec.latent_dim], key(_LATENTS), alg="philox")

        generator_tape = tf.GradientTape()  # records twice: the pictures now, their judgement after D has moved
        with generator_tape:
            fake = generator(inputs(latents, labels), training=True)
        still = tf.stop_gradient(fake)

        with tf.GradientTape() as tape:
            if spec.penalty_weight > 0:
                real_logits, real_penalty = gradient_penalty(lambda pixels: judge(pixels, _REAL), real)
                fake_logits, fake_penalty = gradient_penalty(lambda pixels: judge(pixels, _FAKE), still)
                penalty = real_penalty + fake_penalty
            else:
                real_logits, fake_logits, penalty = judge(real, _REAL), judge(still, _FAKE), tf.constant(0.0)
            d_loss = discriminator_loss(real_logits, fake_logits)
            total = d_loss + 0.5 * spec.penalty_weight * penalty
        variables = discriminator.trainable_variables
        state.discriminator_optimizer.apply(tape.gradient(total, variables), variables)

        real_logits = judge(real, _REAL)
        with generator_tape:
            g_loss = generator_loss(real_logits, judge(fake, _FAKE_AGAIN))
        variables = generator.trainable_variables
        state.generator_optimizer.apply(generator_tape.gradient(g_loss, variables), variables)

        for average, current in zip(state.ema_generator.variables, generator.variables, strict=True):
            average.assign(current.value + ema_keep * (average.value - current.value))
        return tf.stack([d_loss, g_loss, penalty])

    return step


def ema_keep(images_seen: int, *, batch_size: int, half_life_images: int) -> float:
    """The part of the running average that one step keeps: 0.5 ** (batch / half-life).

    The half-life is at most a twentieth of the pictures seen, so the average forgets the first steps, and begins as a
    copy (the warm-up of Karras et al., arXiv 2006.06676).
    """
    half_life = min(half_life_images, images_seen / 20)
    return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0


def prefers_jit() -> bool:
    """Whether XLA is the faster way here: on a GPU yes, on a CPU no.

    Measured on 2 cores at batch 64: dcgan-64 gives 90 images/s with XLA and 126 without, because XLA's CPU back end
    runs transposed convolutions as dilated ones; without normalisation layers there is little for it to fuse.
    """
    return bool(tf.config.list_logical_devices("GPU"))
