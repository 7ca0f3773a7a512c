"""Differentiable augmentations for few pictures (Zhao et al., DiffAugment, arXiv 2006.10738): colour, shift, cutout.

The same distribution of changes is applied to real and fake pictures in front of the discriminator, so it cannot learn
the few real ones by heart, and the generator does not learn the changes. Everything is a sum, a product or a matrix
product of the pixels: differentiable any number of times, static in shape, safe under XLA. No flips: letters and digits
have a direction.
"""

import tensorflow as tf

#: Largest shift as a part of the side, and side of the cut-out square; both DiffAugment's.
SHIFT_MAX = 1 / 8
CUTOUT_SIDE = 1 / 2

#: Random numbers drawn per picture: a yes or no and up to two amounts for each of five changes.
_DRAWS = 13


def augment(pixels: tf.Tensor, probability: float, *, seed: tf.Tensor) -> tf.Tensor:
    """Pixels float32 (N, H, W, C) about [-1, 1], each change made to each picture with `probability` of its own.

    `seed`: int32 (2,); the same seed makes the same changes. With probability 0 the very tensor is returned.
    """
    if probability <= 0:
        return pixels
    draws = tf.random.stateless_uniform([pixels.shape[0], _DRAWS], seed, alg="philox")
    chosen = tf.cast(draws[:, :5] < probability, tf.float32)
    amounts = draws[:, 5:]
    pixels = _colour(pixels, chosen[:, :3], amounts[:, :3])
    pixels = _shift(pixels, chosen[:, 3], amounts[:, 3:5])
    return _cutout(pixels, chosen[:, 4], amounts[:, 5:7])


def _colour(pixels: tf.Tensor, chosen: tf.Tensor, amounts: tf.Tensor) -> tf.Tensor:
    """Brightness + U(-0.5, 0.5), saturation × U(0, 2), contrast × U(0.5, 1.5); chosen and amounts are (N, 3)."""
    brightness, saturation, contrast = (
        tf.reshape(chosen[:, i] * (amounts[:, i] - 0.5) * scale, [-1, 1, 1, 1]) for i, scale in enumerate((1.0, 2.0, 1.0))
    )
    pixels = pixels + brightness
    grey = tf.reduce_mean(pixels, axis=3, keepdims=True)
    pixels = pixels + saturation * (pixels - grey)
    level = tf.reduce_mean(pixels, axis=[1, 2, 3], keepdims=True)
    return pixels + contrast * (pixels - level)


def _shift(pixels: tf.Tensor, chosen: tf.Tensor, amounts: tf.Tensor) -> tf.Tensor:
    """Move by whole pixels, up to SHIFT_MAX of the side each way; what comes in is 0, mid-grey."""
    for axis in (0, 1):
        side = pixels.shape[1 + axis]
        steps = 2 * int(side * SHIFT_MAX) + 1
        offset = tf.floor(amounts[:, axis] * steps) - (steps // 2)
        offset = tf.cast(chosen * offset, tf.int32)
        source = tf.range(side)[None, :] - offset[:, None]
        move = tf.one_hot(source, side)  # (N, side, side); a source outside gives a row of zeros
        pixels = tf.einsum("nij,njwc->niwc" if axis == 0 else "nij,nhjc->nhic", move, pixels)
    return pixels


def _cutout(pixels: tf.Tensor, chosen: tf.Tensor, amounts: tf.Tensor) -> tf.Tensor:
    """Set a square of CUTOUT_SIDE of the side to 0; its middle is anywhere in the picture."""
    inside = []
    for axis in (0, 1):
        side = pixels.shape[1 + axis]
        middle = tf.floor(amounts[:, axis] * side)[:, None]
        distance = tf.abs(tf.range(side, dtype=tf.float32)[None, :] + 0.5 - middle)
        inside.append(tf.cast(distance < side * CUTOUT_SIDE / 2, tf.float32))
    hole = inside[0][:, :, None, None] * inside[1][:, None, :, None]
    return pixels * (1.0 - chosen[:, None, None, None] * hole)
