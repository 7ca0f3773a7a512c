"""From a preset and a data set to a spec."""

from typing import Any

import pytest

from aigc_core.errors import InvalidSpec
from aigc_core.gan.batches import batch_indices
from aigc_core.gan.presets import PRESETS, presets_for_size, training_spec

DATASET: dict[str, Any] = {
    "model": "m", "dataset": "photos", "dataset_fingerprint": "f", "channels": 3, "class_names": (), "image_count": 100,
}  # fmt: skip


def test_every_preset_makes_a_spec_whose_stages_reach_its_size() -> None:
    for name, preset in PRESETS.items():
        spec = training_spec(name, size=preset.size, **DATASET)
        assert 4 * 2 ** len(spec.widths) == spec.size
        assert name in presets_for_size(preset.size)


def test_an_override_replaces_the_presets_choice() -> None:
    assert training_spec("quick-32", size=32, steps=7, **DATASET).steps == 7


@pytest.mark.parametrize(
    ("preset", "size", "more", "words"),
    [
        ("quik-32", 32, {}, "did you mean 'quick-32'"),
        ("quick-32", 64, {}, "choose preset dcgan-64"),
        ("dcgan-64", 48, {}, "--size 64"),
        ("quick-32", 32, {"stpes": 5}, "'stpes'"),
    ],
)
def test_what_a_preset_cannot_do_is_refused_with_what_can(preset: str, size: int, more: dict[str, int], words: str) -> None:
    with pytest.raises(InvalidSpec, match=words):
        training_spec(preset, size=size, **DATASET, **more)


@pytest.mark.parametrize(("batch_size", "image_count"), [(8, 20), (7, 7), (16, 5)])
def test_every_epoch_shows_every_picture_once(batch_size: int, image_count: int) -> None:
    steps = image_count  # batch_size whole epochs
    shown = [
        index
        for step in range(steps)
        for index in batch_indices(step, seed=3, batch_size=batch_size, image_count=image_count)
    ]
    for epoch in range(batch_size):
        assert sorted(shown[epoch * image_count : (epoch + 1) * image_count]) == list(range(image_count))
