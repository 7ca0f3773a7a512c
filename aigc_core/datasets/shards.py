"""Data sets in the object store: shards of pictures, then the card, then the pointer to the current card."""

import hashlib
import io
import zipfile

import numpy as np
from numpy.typing import NDArray

from aigc_core.datasets.card import DatasetCard, Shard
from aigc_core.errors import InvalidSpec, NotFound
from aigc_core.storage import layout
from aigc_core.storage.object_store import ObjectStore

#: Pictures per shard: 50 MB at 64×64×3, so a reader holds little and a listing is short.
SHARD_IMAGES = 4_096


def write_shards(store: ObjectStore, prefix: str, images: NDArray[np.uint8], labels: NDArray[np.int32]) -> tuple[Shard, ...]:
    """Store images (N, H, W, C) and labels (N,) below `prefix`.

    The bytes follow from the input alone, all of which is in the fingerprint that names `prefix`: whoever ingests the same
    pictures again writes the same shards, and a reader with the earlier card finds what it says.
    """
    shards = []
    for number, start in enumerate(range(0, len(images), SHARD_IMAGES)):
        part = slice(start, start + SHARD_IMAGES)
        payload = _packed(images[part], labels[part])
        key = f"{prefix}shard-{number:05d}.npz"
        store.put(key, payload)
        shards.append(Shard(key=key, count=len(images[part]), sha256=hashlib.sha256(payload).hexdigest()))
    return tuple(shards)


def write_card(store: ObjectStore, card: DatasetCard) -> None:
    """Store the card with its state of the data set, then make it the current one."""
    payload = card.to_json().encode()
    for key in (
        f"{layout.dataset_prefix(card.name, card.fingerprint)}dataset.json",
        layout.dataset_card_key(card.name),
    ):
        store.put(key, payload, content_type="application/json")


def read_card(store: ObjectStore, name: str, fingerprint: str | None = None) -> DatasetCard:
    """The current card of a data set, or that of one state; `NotFound` says what there is."""
    key = layout.dataset_card_key(name)
    if fingerprint is not None:
        key = f"{layout.dataset_prefix(name, fingerprint)}dataset.json"
    try:
        return DatasetCard.from_json(store.get(key))
    except NotFound:
        known = ", ".join(_names(store)) or "none; make one with `aigc dataset ingest`"
        state = "" if fingerprint is None else f" with fingerprint {fingerprint[:12]}"
        raise NotFound(f"no data set {name!r}{state}; there is {known}") from None


def list_datasets(store: ObjectStore) -> list[DatasetCard]:
    """The current cards of all data sets, by name."""
    return [read_card(store, name) for name in _names(store)]


def _names(store: ObjectStore) -> list[str]:
    """The data sets that have a card: an ingest that was interrupted leaves shards without one."""
    return [name for name in store.list_folders("datasets/") if store.exists(layout.dataset_card_key(name))]


def load_dataset(
    store: ObjectStore, name: str, fingerprint: str | None = None
) -> tuple[DatasetCard, NDArray[np.uint8], NDArray[np.int32]]:
    """(card, images uint8 (N, H, W, C), labels int32 (N,)); `InvalidSpec` when a shard is not what its card says."""
    card = read_card(store, name, fingerprint)
    images = np.empty((card.kept_count, card.size, card.size, card.channels), np.uint8)
    labels = np.empty(card.kept_count, np.int32)
    start = 0
    for shard in card.shards:
        payload = store.get(shard.key)
        if hashlib.sha256(payload).hexdigest() != shard.sha256:
            raise InvalidSpec(f"{store.uri(shard.key)} is damaged: its SHA-256 is not the card's; ingest the data again")
        with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
            images[start : start + shard.count] = arrays["images"]
            labels[start : start + shard.count] = arrays["labels"]
        start += shard.count
    return card, images, labels


def _packed(images: NDArray[np.uint8], labels: NDArray[np.int32]) -> bytes:
    """An .npz whose bytes depend on its content alone: np.savez writes the time of day into it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in (("images", images), ("labels", labels)):
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), content.getvalue())
    return buffer.getvalue()
