"""Sample grids: the same latents and classes at every step, so that two grids of a run can be compared cell by cell."""

import io

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aigc_core.jobs.specs import TrainingSpec

#: Cells of a grid: classes run along a row, further rows show other latents of the same classes.
COLUMNS, ROWS = 10, 8

#: Stream of the seed that the grid's latents come from; the loop's noise never uses NumPy, so they cannot collide.
_STREAM = 1


def sample_grid(generator: keras.Model, spec: TrainingSpec) -> bytes:
    """A PNG of COLUMNS × ROWS pictures of the generator, from latents that depend on the spec's seed only."""
    count = COLUMNS * ROWS
    latents = np.random.default_rng((spec.seed, _STREAM)).standard_normal((count, spec.latent_dim), dtype=np.float32)
    pictures = to_pictures(_pixels(generator, latents, labels=_labels(spec)))
    side = spec.size
    cells = pictures.reshape(ROWS, COLUMNS, side, side, spec.channels).transpose(0, 2, 1, 3, 4)
    sheet = cells.reshape(ROWS * side, COLUMNS * side, spec.channels)
    buffer = io.BytesIO()
    Image.fromarray(sheet[..., 0] if spec.channels == 1 else sheet).save(buffer, "PNG")
    return buffer.getvalue()


def to_pictures(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """uint8 of pixels float32 about [-1, 1], clipped and rounded: the inverse of x / 127.5 - 1."""
    return np.clip(np.rint((pixels + 1.0) * 127.5), 0, 255).astype(np.uint8)


def _labels(spec: TrainingSpec) -> NDArray[np.int32] | None:
    """One class per column where they fit into a row; otherwise classes spread over the whole grid."""
    classes = len(spec.class_names)
    if not classes:
        return None
    cells = np.arange(COLUMNS * ROWS)
    if classes <= COLUMNS:
        return (cells % COLUMNS % classes).astype(np.int32)
    return (cells * max(1, classes // cells.size) % classes).astype(np.int32)


def _pixels(
    generator: keras.Model, latents: NDArray[np.float32], *, labels: NDArray[np.int32] | None
) -> NDArray[np.float32]:
    inputs = latents if labels is None else [latents, labels]
    return np.asarray(generator(inputs, training=False))
