"""From seeds to latents. A latent depends on its own seed only: not on the batch, the worker or the retry."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def latents_from_seeds(seeds: Sequence[int], latent_dim: int) -> NDArray[np.float32]:
    """float32 (len(seeds), latent_dim), N(0, 1).

    Philox is counter based: a key of 64 bits gives an independent stream, at once and without a hash of the seed. A test
    holds the values fixed, so a NumPy that draws others is found before it changes anybody's pictures.
    """
    latents = np.empty((len(seeds), latent_dim), np.float32)
    for row, seed in enumerate(seeds):
        generator = np.random.Generator(np.random.Philox(key=seed))
        generator.standard_normal(latent_dim, dtype=np.float32, out=latents[row])
    return latents
