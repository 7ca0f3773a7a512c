"""From a file's bytes to a picture of the data set, and which pictures are worth keeping."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

#: Larger pictures are refused as broken before they are decoded: 100 megapixels are 300 MB.
PIXELS_MAX = 100_000_000

#: A picture whose grey levels spread less than this (standard deviation, of 255) shows nothing.
BLANK_DEVIATION = 2.0

#: Two pictures are the same to the eye when their difference hashes differ in at most so many of 64 bits …
HASH_BITS_MAX = 3
#: … and their pixels by less than this on average, of 255: layouts alone are alike on every shelf.
PIXEL_DIFFERENCE_MAX = 4.0


class Broken(Exception):
    """The file is no readable picture; the text is the reason."""


def normalise(payload: bytes, *, size: int, channels: int) -> NDArray[np.uint8]:
    """The picture as uint8 (size, size, channels): upright, centre crop to a square, antialiased resize, alpha on white."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is no reason to drop a picture
            image: Image.Image = Image.open(io.BytesIO(payload))
            if image.width * image.height > PIXELS_MAX:
                raise Broken(f"{image.width}×{image.height} pixels, at most {PIXELS_MAX:,} are read")
            image.load()
            image = ImageOps.exif_transpose(image)
    except Broken:
        raise
    except UnidentifiedImageError as error:
        raise Broken("not a picture in any known format") from error
    except Exception as error:  # Pillow raises a dozen classes on broken files, all of them mean that
        raise Broken(f"{type(error).__name__}: {str(error)[:120]}") from error
    flat = _flattened(image).convert("L" if channels == 1 else "RGB")
    squared = ImageOps.fit(flat, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(squared, np.uint8).reshape(size, size, channels)


def _flattened(image: Image.Image) -> Image.Image:
    """Transparency on white; 16 and 32 bits of grey scaled to 8."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        levels = np.asarray(image, np.float64)
        scale = 255 / 65_535 if levels.max(initial=0) > 255 else 1.0
        return Image.fromarray(np.clip(levels * scale, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", coloured.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, coloured).convert("RGB")
    return image


def is_blank(picture: NDArray[np.uint8]) -> bool:
    """Whether the picture shows one flat level."""
    return float(picture.std()) < BLANK_DEVIATION


def difference_hash(picture: NDArray[np.uint8]) -> int:
    """64 bits: whether each cell of a 9×8 grey thumbnail is darker than its right neighbour (dHash)."""
    grey = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).convert("L")
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), np.int16)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


class NearDuplicates:
    """Finds, for a picture, an earlier one that looks the same. O(n) per picture over an array of hashes."""

    def __init__(self, capacity: int) -> None:
        self._hashes = np.zeros(capacity, np.uint64)
        self._count = 0

    def find(self, picture: NDArray[np.uint8], kept: list[NDArray[np.uint8]]) -> int | None:
        """The index in `kept` of a look-alike, or None; then the picture is taken as the next kept one."""
        bits = np.uint64(difference_hash(picture))
        distances = np.bitwise_count(self._hashes[: self._count] ^ bits)
        for index in np.flatnonzero(distances <= HASH_BITS_MAX):
            difference = np.abs(kept[index].astype(np.int16) - picture).mean()
            if difference < PIXEL_DIFFERENCE_MAX:
                return int(index)
        self._hashes[self._count] = bits
        self._count += 1
        return None
