"""What a spec refuses, and that it survives JSON."""

from typing import Any

import pytest
from builders import a_generation_spec, a_training_spec

from aigc_core.errors import InvalidSpec
from aigc_core.jobs.items import plain_item
from aigc_core.jobs.specs import COUNT_MAX, GenerationSpec, TrainingSpec


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"count": 0}, "count 0"),
        ({"count": -5}, "count -5"),
        ({"count": COUNT_MAX + 1}, "count 10000001"),
        ({"count": True}, "count True"),
        ({"seed": -1}, "seed -1"),
        ({"format": "gif"}, "png, jpeg, webp"),
        ({"model": "../x"}, "model '../x'"),
        ({"classes": ("cat",)}, "has no classes"),
        ({"class_names": ("dog", "cow"), "classes": ("cat",)}, "knows dog, cow"),
        ({"class_names": ("dog",)}, "name at least one"),
        ({"chunk_items": 100}, "multiple"),
        ({"channels": 2}, "expected 1"),
        ({"manifest_sha256": "abc"}, "64 hex digits"),
        ({"manifest_sha256": "0" * 64, "seed": 1}, "leave them out"),
        ({"manifest_sha256": "0" * 64, "class_names": ("a",), "classes": ("a",)}, "leave them out"),
    ],
)
def test_a_wrong_field_is_refused_with_its_name_and_what_was_expected(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSpec, match=words):
        a_generation_spec(**fields)


def test_specs_survive_json() -> None:
    generation = a_generation_spec(class_names=("a", "b"), classes=("b",))
    training = a_training_spec(class_names=("a",))
    assert GenerationSpec.from_json(generation.to_json()) == generation
    assert TrainingSpec.from_json(training.to_json()) == training


@pytest.mark.parametrize("text", ["", "[]", '{"model": "x"}', '{"modle": "x"}'])
def test_json_that_is_no_spec_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="GenerationSpec"):
        GenerationSpec.from_json(text)


def test_items_take_the_classes_in_turn_and_the_seeds_in_order() -> None:
    spec = a_generation_spec(class_names=("a", "b", "c"), classes=("c", "a"), seed=10)
    assert [plain_item(spec, index).class_name for index in range(3)] == ["c", "a", "c"]
    assert plain_item(spec, 2).seed == 12
