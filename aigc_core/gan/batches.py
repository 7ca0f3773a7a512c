"""Which pictures make up which batch: a function of (seed, step) alone, so a resumed run needs no shuffle state."""

import functools

import numpy as np
from numpy.typing import NDArray


def batch_indices(step: int, *, seed: int, batch_size: int, image_count: int) -> NDArray[np.int64]:
    """Positions int64 (batch_size,) in [0, image_count) of the pictures of step `step`, counted from 0.

    Epochs follow each other without a gap, each a permutation of its own: every picture once per epoch, also where the
    batch does not divide the data set or is larger than it.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)
    epochs, places = np.divmod(positions, image_count)
    parts = [epoch_order(seed, int(epoch), image_count)[places[epochs == epoch]] for epoch in np.unique(epochs)]
    return np.concatenate(parts)


@functools.lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, image_count: int) -> NDArray[np.int64]:
    """The order of epoch `epoch`: a permutation int64 (image_count,). The last two are kept; a batch may span both."""
    order = np.random.default_rng((seed, epoch)).permutation(image_count)
    order.setflags(write=False)
    return order
