"""The two losses and the gradient penalty, as functions of logits; all means over the batch, all float32.

Relativistic pairing (Jolicoeur-Martineau, arXiv 1807.00734; Huang et al., arXiv 2501.05441): the real and the fake
picture of one batch position, here of one class, are compared with each other instead of with a fixed zero. Adding a
constant to every logit changes nothing, so the level of the logits means nothing and must not be watched.
"""

from collections.abc import Callable

import tensorflow as tf


def discriminator_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """mean softplus(-(D(x) - D(G(z)))) of logits float32 (N,); ln 2 when they are equal."""
    return tf.reduce_mean(tf.nn.softplus(fake_logits - real_logits))


def generator_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """mean softplus(-(D(G(z)) - D(x))) of logits float32 (N,); ln 2 when they are equal."""
    return tf.reduce_mean(tf.nn.softplus(real_logits - fake_logits))


def gradient_penalty(discriminate: Callable[[tf.Tensor], tf.Tensor], pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Logits float32 (N,) and the mean squared gradient ||∇x D(x)||², a scalar, at pixels float32 (N, H, W, C).

    The square is summed over H, W and C (Mescheder et al., arXiv 1801.04406: R1 on real pictures). `discriminate` must
    be twice differentiable and must not mix pictures, for the gradient of the sum is read as one gradient per picture.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(pixels)
        logits = discriminate(pixels)
        total = tf.reduce_sum(logits)
    gradient = tape.gradient(total, pixels)
    return logits, tf.reduce_mean(tf.reduce_sum(tf.square(gradient), axis=[1, 2, 3]))
