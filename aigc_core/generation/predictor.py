"""The promise of whatever turns latents into pictures; `serving.client` keeps it over gRPC."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Predictor(Protocol):
    """May be called from several threads at once."""

    def predict(
        self, model: str, version: int, latents: NDArray[np.float32], *, labels: NDArray[np.int32] | None = None
    ) -> NDArray[np.uint8]:
        """Pictures of one batch.

        latents: float32 (N, latent_dim); labels: int32 (N,) or None → uint8 (N, height, width, channels).
        Raises `Unavailable` when the server is away, overloaded, or does not serve this version (yet), `Transient` for
        any other failed request, `InvalidSpec` when the answer or the question breaks the contract.
        """
        ...


class FakePredictor:
    """A pure function of the latents, so tests can ask whether the same item always gives the same picture."""

    def __init__(self, *, height: int = 8, width: int = 8, channels: int = 1) -> None:
        self._shape = (height, width, channels)
        self.request_count = 0

    def predict(
        self, model: str, version: int, latents: NDArray[np.float32], *, labels: NDArray[np.int32] | None = None
    ) -> NDArray[np.uint8]:
        self.request_count += 1
        pixel_count = int(np.prod(self._shape))
        images = np.tile(latents, (1, -(-pixel_count // latents.shape[1])))[:, :pixel_count]
        shift = np.zeros(len(latents)) if labels is None else labels
        levels = np.clip(127.5 + 40 * images + shift[:, None], 0, 255)
        return levels.astype(np.uint8).reshape(len(latents), *self._shape)
