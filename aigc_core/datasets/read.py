"""Where pictures come from: a folder tree, an S3 prefix, or scikit-learn's digits. Listed in order, read one at a time."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aigc_core.errors import InvalidSpec, NotFound
from aigc_core.storage.object_store import ObjectStore

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One picture file: its path below the source, `/` separated, and how to get its bytes."""

    name: str
    read: Callable[[], bytes]

    @property
    def class_name(self) -> str:
        """The folder path; empty for a file directly in the source."""
        return self.name.rpartition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The picture files of a source in name order, and how many other files lie between them."""

    files: tuple[SourceFile, ...]
    skipped_count: int


def open_source(source: str, *, open_bucket: Callable[[str], ObjectStore] | None) -> Source:
    """List the pictures of SOURCE; `InvalidSpec` when there are none, or there is no such place."""
    if source == "digits":
        return _digits()
    found = _s3(source, open_bucket) if source.startswith("s3://") else _folder(Path(source))
    if not found.files:
        known = " ".join(sorted(SUFFIXES))
        raise InvalidSpec(f"{source}: no picture files in it ({found.skipped_count} other files); expected {known}")
    return found


def _folder(root: Path) -> Source:
    if not root.is_dir():
        raise NotFound(f"{root}: no such folder; expected a folder of pictures, s3://bucket/prefix, or digits")
    paths = [
        path
        for path in root.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]
    pictures = {path.relative_to(root).as_posix(): path for path in paths if path.suffix.lower() in SUFFIXES}
    files = tuple(SourceFile(name=name, read=pictures[name].read_bytes) for name in sorted(pictures))
    return Source(files=files, skipped_count=len(paths) - len(files))


def _s3(source: str, open_bucket: Callable[[str], ObjectStore] | None) -> Source:
    bucket, _, prefix = source.removeprefix("s3://").partition("/")
    if not bucket or open_bucket is None:
        raise InvalidSpec(f"{source}: expected s3://bucket/prefix")
    store = open_bucket(bucket)
    prefix = prefix if not prefix or prefix.endswith("/") else prefix + "/"
    keys = [info.key for info in store.scan(prefix)]
    pictures = sorted(key for key in keys if Path(key).suffix.lower() in SUFFIXES)
    files = tuple(SourceFile(name=key[len(prefix) :], read=_getter(store, key)) for key in pictures)
    return Source(files=files, skipped_count=len(keys) - len(files))


def _getter(store: ObjectStore, key: str) -> Callable[[], bytes]:
    return lambda: store.get(key)


def _digits() -> Source:
    """scikit-learn's 1,797 handwritten digits, 8×8 with 17 grey levels, as PNG files in class folders."""
    from PIL import Image
    from sklearn.datasets import load_digits

    pictures = load_digits()

    def read(index: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray((pictures.images[index] * (255 / 16)).round().astype("uint8")).save(buffer, "PNG")
        return buffer.getvalue()

    def reader(index: int) -> Callable[[], bytes]:
        return lambda: read(index)

    named = sorted((f"{target}/{index:04d}.png", index) for index, target in enumerate(pictures.target))
    return Source(files=tuple(SourceFile(name=name, read=reader(index)) for name, index in named), skipped_count=0)
