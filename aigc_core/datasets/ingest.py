"""From SOURCE to a stored data set: read → normalise → drop blanks and duplicates → fingerprint → shards → card."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from aigc_core.clock import Clock
from aigc_core.datasets.card import LISTED_MAX, DatasetCard
from aigc_core.datasets.clean import Broken, NearDuplicates, is_blank, normalise
from aigc_core.datasets.read import Source, SourceFile, open_source
from aigc_core.datasets.shards import write_card, write_shards
from aigc_core.errors import InvalidSpec
from aigc_core.jobs.order import check_name, check_range
from aigc_core.storage import layout
from aigc_core.storage.object_store import ObjectStore

#: Files decoded at once. Pillow gives the interpreter's lock back while it decodes.
DECODE_THREADS = 4

Picture = NDArray[np.uint8]
OnProgress = Callable[[int, int], None]


@dataclass(slots=True)
class Kept:
    """What has been kept and dropped so far."""

    pictures: list[Picture] = field(default_factory=list)
    files: list[SourceFile] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    duplicates: dict[str, str] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)


def ingest_dataset(
    source: str,
    *,
    name: str,
    size: int,
    channels: int = 3,
    store: ObjectStore,
    clock: Clock,
    open_bucket: Callable[[str], ObjectStore] | None = None,
    on_progress: OnProgress | None = None,
) -> DatasetCard:
    """Clean the pictures of `source` and store them as data set `name`; nothing is stored when anything is refused.

    `source`: a folder tree (class = folder path), s3://bucket/prefix (through `open_bucket`), or `digits`.
    `InvalidSpec`: a bad name, size or channels, no pictures, or none left after cleaning. `Unavailable`: the store is away,
    which is said before a picture is read.
    """
    check_name(name, "data set")
    check_range(size, "size", 8, 1_024)
    if channels not in (1, 3):
        raise InvalidSpec(f"channels {channels}: expected 1 (grey) or 3 (colour)")
    store.list_folders(layout.dataset_folder(name))  # a store that is away is found out before hours of decoding
    found = open_source(source, open_bucket=open_bucket)
    kept = _clean(found, size=size, channels=channels, on_progress=on_progress)
    if not kept.pictures:
        raise InvalidSpec(f"{source}: none of its {len(found.files)} files is a usable picture; {_why(kept)}")
    class_names = _class_names(kept.files)
    images = np.stack(kept.pictures)
    labels = np.array([class_names.index(f.class_name) if class_names else 0 for f in kept.files], np.int32)
    fingerprint = _fingerprint(images, labels, class_names)
    prefix = layout.dataset_prefix(name, fingerprint)
    card = DatasetCard(
        name=name,
        fingerprint=fingerprint,
        source=source,
        size=size,
        channels=channels,
        class_names=class_names,
        class_counts=dict(Counter(class_names[label] for label in labels)) if class_names else {},
        kept_count=len(images),
        exact_duplicate_count=kept.dropped["exact"],
        perceptual_duplicate_count=kept.dropped["perceptual"],
        blank_count=kept.dropped["blank"],
        broken_count=kept.dropped["broken"],
        skipped_count=found.skipped_count,
        created_at=clock.now(),
        shards=write_shards(store, prefix, images, labels),
        broken=kept.broken,
        duplicates=kept.duplicates,
    )
    write_card(store, card)
    return card


def _clean(found: Source, *, size: int, channels: int, on_progress: OnProgress | None) -> Kept:
    kept = Kept()
    seen: dict[bytes, SourceFile] = {}
    near = NearDuplicates(len(found.files))
    for done, (file, picture) in enumerate(_decoded(found.files, size=size, channels=channels), start=1):
        if on_progress is not None and (done % 50 == 0 or done == len(found.files)):
            on_progress(done, len(found.files))
        if isinstance(picture, Broken):
            kept.dropped["broken"] += 1
            _list(kept.broken, file.name, str(picture))
            continue
        digest = hashlib.sha256(picture.tobytes()).digest()
        if is_blank(picture):
            kept.dropped["blank"] += 1
        elif digest in seen:
            kept.dropped["exact"] += 1
            _list(kept.duplicates, file.name, seen[digest].name)
        elif (index := near.find(picture, kept.pictures)) is not None:
            kept.dropped["perceptual"] += 1
            _list(kept.duplicates, file.name, kept.files[index].name)
        else:
            seen[digest] = file
            kept.pictures.append(picture)
            kept.files.append(file)
    return kept


def _decoded(files: tuple[SourceFile, ...], *, size: int, channels: int) -> Iterator[tuple[SourceFile, Picture | Broken]]:
    """Every file with its picture or its fault, in order; a few are decoded ahead."""

    def decode(file: SourceFile) -> Picture | Broken:
        try:
            return normalise(file.read(), size=size, channels=channels)
        except Broken as fault:
            return fault
        except OSError as error:
            return Broken(f"not readable: {error.strerror or error}")

    with ThreadPoolExecutor(DECODE_THREADS) as threads:
        ahead: list[tuple[SourceFile, Future[Picture | Broken]]] = []
        remaining = iter(files)
        for file in islice(remaining, 4 * DECODE_THREADS):
            ahead.append((file, threads.submit(decode, file)))
        while ahead:
            file, future = ahead.pop(0)
            yield file, future.result()
            for following in islice(remaining, 1):
                ahead.append((following, threads.submit(decode, following)))


def _class_names(files: list[SourceFile]) -> tuple[str, ...]:
    """The folders in order. Pictures directly in the source have no class, which is fine only if none has."""
    names = sorted({file.class_name for file in files})
    if names == [""]:
        return ()
    if "" in names:
        example = next(file.name for file in files if not file.class_name)
        raise InvalidSpec(f"{example} lies outside every class folder, others lie in one; move it into its class")
    return tuple(names)


def _fingerprint(images: Picture, labels: NDArray[np.int32], class_names: tuple[str, ...]) -> str:
    """SHA-256 of what a training sees: shape, pixels, labels, class names; not of paths, times or the file system."""
    digest = hashlib.sha256(repr((images.shape, class_names)).encode())
    digest.update(labels.tobytes())
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()


def _why(kept: Kept) -> str:
    if kept.broken:
        file, reason = next(iter(kept.broken.items()))
        return f"the first is {file}: {reason}"
    return "all of them are blank"


def _list(named: dict[str, str], name: str, text: str) -> None:
    if len(named) < LISTED_MAX:
        named[name] = text
