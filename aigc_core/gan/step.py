"""One step of training as one compiled function: discriminator, generator, running average."""

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from aigc_core.gan.augment import augment
from aigc_core.gan.losses import discriminator_loss, generator_loss, gradient_penalty
from aigc_core.gan.networks import build_discriminator, build_generator
from aigc_core.jobs.specs import TrainingSpec

#: Adam's decay of the squared gradients; .999 is unstable for a GAN (Huang et al., arXiv 2501.05441, appendix).
BETA_2 = 0.99

#: Keras' 1e-7 is added before the bias correction, where it is not small beside the first steps' moments.
EPSILON = 1e-8

#: Random streams of one step.
_LATENTS, _REAL, _FAKE, _GENERATED, _STREAMS = 0, 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Networks:
    """Everything that training changes."""

    generator: keras.Model
    average: keras.Model  # exponential moving average of the generator's weights: what is exported
    discriminator: keras.Model
    generator_optimizer: keras.optimizers.Optimizer
    discriminator_optimizer: keras.optimizers.Optimizer

    def variables(self) -> dict[str, Any]:
        """Every variable by a name that is the same in the next process: a checkpoint is these and nothing more."""
        parts = {
            "generator": self.generator.variables,
            "average": self.average.variables,
            "discriminator": self.discriminator.variables,
            "generator_optimizer": self.generator_optimizer.variables,
            "discriminator_optimizer": self.discriminator_optimizer.variables,
        }
        return {f"{part}.{number:03d}": value for part, values in parts.items() for number, value in enumerate(values)}


def build_networks(spec: TrainingSpec) -> Networks:
    """Fresh networks and optimisers; all that is random in them is a function of the spec's seed."""
    generator, discriminator = build_generator(spec), build_discriminator(spec)
    average = build_generator(spec, name="average")
    average.set_weights(generator.get_weights())
    optimizers = [
        keras.optimizers.Adam(spec.learning_rate, beta_1=spec.beta_1, beta_2=BETA_2, epsilon=EPSILON) for _ in range(2)
    ]
    for optimizer, model in zip(optimizers, (generator, discriminator), strict=True):
        optimizer.build(model.trainable_variables)  # before a checkpoint is loaded: unbuilt ones would be skipped
    return Networks(generator, average, discriminator, optimizers[0], optimizers[1])


def compile_step(spec: TrainingSpec, networks: Networks) -> Any:
    """A function (images uint8 (B, H, W, C), labels int32 (B,), step int32, average_decay float32) → three losses.

    Both networks take one Adam step: relativistic losses, R1 and R2 with weight `penalty_weight` / 2 on un-augmented
    pixels, augmentation inside. Compiled by XLA, which needs the one batch size.
    """
    generator, discriminator = networks.generator, networks.discriminator

    def noise(step: tf.Tensor, stream: int) -> tf.Tensor:
        return tf.stack([tf.constant(spec.seed), step * _STREAMS + stream])

    def judge(pixels: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        seen = augment(pixels, spec.augment_probability, seed=seed)
        return discriminator([seen, labels] if spec.class_names else seen)

    def penalised(pixels: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, Any]:
        if spec.penalty_weight <= 0:
            return judge(pixels, labels, seed), 0.0
        return gradient_penalty(lambda x: judge(x, labels, seed), pixels)

    @tf.function(jit_compile=True)
    def train_step(images: Any, labels: Any, step: Any, average_decay: Any) -> tuple[Any, Any, Any]:
        real = tf.cast(images, tf.float32) / 127.5 - 1.0
        latents = tf.random.stateless_normal([spec.batch_size, spec.latent_dim], noise(step, _LATENTS), alg="philox")
        inputs = [latents, labels] if spec.class_names else latents
        fake = tf.stop_gradient(generator(inputs))
        with tf.GradientTape() as tape:
            real_logits, real_penalty = penalised(real, labels, noise(step, _REAL))
            fake_logits, fake_penalty = penalised(fake, labels, noise(step, _FAKE))
            loss = discriminator_loss(real_logits, fake_logits)
            penalty = real_penalty + fake_penalty
            objective = loss + spec.penalty_weight / 2 * penalty
        gradients = tape.gradient(objective, discriminator.trainable_variables)
        networks.discriminator_optimizer.apply(gradients, discriminator.trainable_variables)
        real_logits = judge(real, labels, noise(step, _REAL))
        with tf.GradientTape() as tape:
            made_logits = judge(generator(inputs), labels, noise(step, _GENERATED))
            made_loss = generator_loss(real_logits, made_logits)
        gradients = tape.gradient(made_loss, generator.trainable_variables)
        networks.generator_optimizer.apply(gradients, generator.trainable_variables)
        for average, value in zip(networks.average.variables, generator.variables, strict=True):
            average.assign(average + (1.0 - average_decay) * (value - average))
        return loss, made_loss, tf.convert_to_tensor(penalty, tf.float32)

    return train_step
