"""Sheets of pictures from fixed latents, so that the sheets of a run can be compared."""

import io

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aigc_core.jobs.specs import TrainingSpec

ROWS, COLUMNS = 8, 10

#: Seed of the latents of every sheet.
SHEET_SEED = 1_234


def sample_sheet(generator: keras.Model, spec: TrainingSpec) -> bytes:
    """A PNG of ROWS × COLUMNS pictures; with classes each column shows one, in label order."""
    count = ROWS * COLUMNS
    latents = np.random.default_rng(SHEET_SEED).standard_normal((count, spec.latent_dim), dtype=np.float32)
    labels = (np.arange(count) % COLUMNS % max(1, len(spec.class_names))).astype(np.int32)
    pixels = np.asarray(generator([latents, labels] if spec.class_names else latents, training=False))
    levels = np.clip(np.round(pixels * 127.5 + 127.5), 0, 255).astype(np.uint8)
    return _png(levels)


def _png(levels: NDArray[np.uint8]) -> bytes:
    count, height, width, channels = levels.shape
    rows = levels.reshape(ROWS, COLUMNS, height, width, channels).transpose(0, 2, 1, 3, 4)
    sheet = rows.reshape(ROWS * height, count // ROWS * width, channels)
    image = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    buffer = io.BytesIO()
    image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()
