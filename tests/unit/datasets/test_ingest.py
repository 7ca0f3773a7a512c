"""What ingest keeps, drops and refuses."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aigc_core.clock import FixedClock
from aigc_core.datasets.card import DatasetCard
from aigc_core.datasets.clean import normalise
from aigc_core.datasets.ingest import ingest_dataset
from aigc_core.datasets.shards import list_datasets, load_dataset, read_card
from aigc_core.errors import InvalidSpec, NotFound, Unavailable
from aigc_core.storage.memory import MemoryObjectStore


def a_picture(seed: int, size: tuple[int, int] = (40, 40)) -> Image.Image:
    """Smooth blobs: unlike each other for unlike seeds."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def save(path: Path, picture: Image.Image, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)


def ingest(folder: Path, store: MemoryObjectStore | None = None, **options: int) -> DatasetCard:
    sizes = {"size": 16, **options}
    return ingest_dataset(str(folder), name="photos", store=store or MemoryObjectStore(), clock=FixedClock(), **sizes)


def payload(picture: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def test_folders_become_classes_and_everything_comes_back(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "Fruit" / "Apple" / f"{number}.png", a_picture(number))
        save(tmp_path / "Milk" / f"{number}.jpg", a_picture(10 + number))
    (tmp_path / "notes.txt").write_text("no picture")
    store = MemoryObjectStore()
    card = ingest(tmp_path, store)
    assert card.class_counts == {"Fruit/Apple": 3, "Milk": 3}
    assert card.skipped_count == 1
    loaded, images, labels = load_dataset(store, "photos")
    assert loaded == card
    assert images.shape == (6, 16, 16, 3)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_the_fingerprint_depends_on_the_pictures_and_not_on_times_places_or_order(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "a" / "x" / f"{number}.png", a_picture(number))
    for number in reversed(range(4)):
        save(tmp_path / "b" / "x" / f"{number}.png", a_picture(number))
        os.utime(tmp_path / "b" / "x" / f"{number}.png", (1, 1))
    first = ingest(tmp_path / "a")
    assert ingest(tmp_path / "b").fingerprint == first.fingerprint
    save(tmp_path / "b" / "x" / "9.png", a_picture(9))
    assert ingest(tmp_path / "b").fingerprint != first.fingerprint
    assert ingest(tmp_path / "a", size=32).fingerprint != first.fingerprint


def test_renamed_files_give_the_same_shards_so_a_reader_with_the_old_card_goes_on(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "before" / "x" / f"{number}.png", a_picture(number))
        save(tmp_path / "after" / "x" / f"holiday-{number}.png", a_picture(number))
    store = MemoryObjectStore()
    old_card = ingest(tmp_path / "before", store)
    old_shards = [store.get(shard.key) for shard in old_card.shards]
    new_card = ingest(tmp_path / "after", store)
    assert new_card.shards == old_card.shards
    assert [store.get(shard.key) for shard in old_card.shards] == old_shards


def test_the_same_pictures_in_another_order_are_another_state(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "before" / "x" / f"{number}.png", a_picture(number))
        save(tmp_path / "after" / "x" / f"{9 - number}.png", a_picture(number))
    assert ingest(tmp_path / "before").fingerprint != ingest(tmp_path / "after").fingerprint


class AwayStore(MemoryObjectStore):
    """Every request fails."""

    def list_folders(self, prefix: str) -> list[str]:
        raise Unavailable("S3 is away")

    def put(self, key: str, payload: bytes, *, content_type: str = "") -> None:
        raise Unavailable("S3 is away")


def test_a_store_that_is_away_is_found_out_before_a_picture_is_read(tmp_path: Path) -> None:
    save(tmp_path / "a.png", a_picture(1))
    read: list[int] = []
    with pytest.raises(Unavailable):
        ingest_dataset(
            str(tmp_path), name="photos", size=16, store=AwayStore(), clock=FixedClock(),
            on_progress=lambda done, total: read.append(done),
        )  # fmt: skip
    assert read == []


def test_broken_blank_and_duplicate_pictures_are_dropped_and_counted(tmp_path: Path) -> None:
    picture = a_picture(1)
    save(tmp_path / "1.png", picture)
    save(tmp_path / "2-same.png", picture)
    save(tmp_path / "3-near.jpg", picture, quality=95, subsampling=0)
    save(tmp_path / "4-other.png", a_picture(2))
    save(tmp_path / "5-blank.png", Image.new("RGB", (40, 40), (9, 9, 9)))
    (tmp_path / "6-broken.png").write_bytes(payload(picture)[:200])
    (tmp_path / "7-text.jpg").write_text("no picture")
    card = ingest(tmp_path)
    assert (card.kept_count, card.exact_duplicate_count, card.perceptual_duplicate_count) == (2, 1, 1)
    assert (card.blank_count, card.broken_count) == (1, 2)
    assert card.duplicates == {"2-same.png": "1.png", "3-near.jpg": "1.png"}
    assert set(card.broken) == {"6-broken.png", "7-text.jpg"}
    assert card.class_names == ()


def test_pictures_are_turned_upright_cropped_in_the_middle_and_flattened_on_white() -> None:
    # given a left half dark, right half light, stored lying on its side with the note to turn it
    picture = Image.new("RGB", (20, 10))
    picture.paste((255, 255, 255), (10, 0, 20, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif, quality=95)
    upright = normalise(buffer.getvalue(), size=8, channels=1)
    assert upright[0].mean() < 60 < 200 < upright[-1].mean()
    # and one that is transparent except for a dot, 16-bit grey, and a palette
    assert normalise(payload(Image.new("RGBA", (8, 8), (0, 0, 0, 0))), size=8, channels=3).min() == 255
    deep = Image.fromarray(np.full((8, 8), 65_535, np.uint16))
    assert normalise(payload(deep), size=8, channels=1).min() == 255
    assert normalise(payload(a_picture(3).convert("P"), "GIF"), size=8, channels=3).shape == (8, 8, 3)


def test_what_gives_no_data_set_is_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"x")
    save(tmp_path / "mixed" / "a.png", a_picture(1))
    save(tmp_path / "mixed" / "c" / "b.png", a_picture(2))
    for folder, words in (
        ("none", "no such folder"),
        ("empty", "no picture"),
        ("broken", "a.png"),
        ("mixed", "class folder"),
    ):
        with pytest.raises(InvalidSpec, match=words):
            ingest(tmp_path / folder, store)
    with pytest.raises(InvalidSpec, match="size 4"):
        ingest(tmp_path / "mixed", store, size=4)
    with pytest.raises(InvalidSpec, match="channels 2"):
        ingest(tmp_path / "mixed", store, channels=2)
    assert list(store.scan("")) == []


def test_an_interrupted_ingest_is_no_data_set_and_hides_no_other(tmp_path: Path) -> None:
    save(tmp_path / "a.png", a_picture(1))
    store = MemoryObjectStore()
    card = ingest(tmp_path, store)
    store.put("datasets/half/0123/shard-00000.npz", b"all that was written before the kill")
    assert list_datasets(store) == [card]
    with pytest.raises(NotFound, match=r"'half'; there is photos$"):
        read_card(store, "half")


def test_a_damaged_shard_is_found_and_an_unknown_data_set_says_what_there_is(tmp_path: Path) -> None:
    save(tmp_path / "a.png", a_picture(1))
    store = MemoryObjectStore()
    card = ingest(tmp_path, store)
    with pytest.raises(NotFound, match="there is photos"):
        read_card(store, "other")
    store.put(card.shards[0].key, store.get(card.shards[0].key)[:-1] + b"x")
    with pytest.raises(InvalidSpec, match="damaged"):
        load_dataset(store, "photos")
