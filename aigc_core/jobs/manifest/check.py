"""From the values of one line to what is ordered, or to everything that is wrong with it."""

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aigc_core.errors import LineProblem
from aigc_core.jobs.manifest.lines import FIELDS
from aigc_core.jobs.specs import IMAGE_FORMATS, SEED_MAX, ImageFormat

ID_CHARACTERS_MAX = 128

#: Names that an error lists at most.
NAMES_MAX = 12

#: What a value is shown of.
SHOWN_CHARACTERS = 80


class Entry(NamedTuple):
    """One ordered picture. A tuple, for there are ten million of them."""

    seed: int
    class_name: str | None  # None of a model without classes
    id: str = ""  # the customer's own name for it; empty without one
    format: str = ""  # empty: the order's


class SeenIds:
    """Which ids have been there, at 8 bytes each: an open hash table of their 64-bit hashes.

    Two ids of ten million have one hash in 3 orders of a million; then the second is called a repetition, and another
    process, whose hashes differ, calls it none.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * 1024))
        self._count = 0

    def add(self, text: str) -> bool:
        """False when it has been there."""
        if 3 * self._count > 2 * len(self._slots):
            self._grow()
        if not self._place(hash(text) & 0xFFFF_FFFF_FFFF_FFFF or 1):
            return False
        self._count += 1
        return True

    def _place(self, mark: int) -> bool:
        slots, mask = self._slots, len(self._slots) - 1
        place = mark & mask
        while found := slots[place]:
            if found == mark:
                return False
            place = place + 1 & mask
        slots[place] = mark
        return True

    def _grow(self) -> None:
        old, self._slots = self._slots, array("Q", bytes(16 * len(self._slots)))
        for mark in old:
            if mark:
                self._place(mark)


class LineCheck:
    """What lines of an order on one model have to keep to; remembers the ids that it took."""

    def __init__(self, *, model: str, class_names: Sequence[str], image_format: ImageFormat) -> None:
        self._model = model
        self._names = tuple(class_names)
        self._classes = frozenset(class_names)
        self._default_format = image_format
        self._seen = SeenIds()

    def entry(self, line: int, values: dict[str, object]) -> Entry | list[LineProblem]:
        """What the line orders, or all that is wrong with it."""
        get = values.get
        seed, class_name, custom, image_format = get("seed"), get("class"), get("id"), get("format")
        problems = [LineProblem(line=line, field=field, code=code, text=text) for field, code, text in self._wrong(values)]
        if problems:
            return problems
        if isinstance(custom, str) and not self._seen.add(custom):
            words = f"id {custom!r} is in an earlier line too; give each picture its own, or none"
            return [LineProblem(line=line, field="id", code="duplicate_id", text=words)]
        named = "" if image_format is None or image_format == self._default_format else str(image_format)
        assert isinstance(seed, int)
        return Entry(seed, None if class_name is None else str(class_name), str(custom or ""), named)

    def _wrong(self, values: dict[str, object]) -> Iterator[tuple[str, str, str]]:
        """(field, code, text) of everything that is wrong in itself."""
        seed = values.get("seed")
        if type(seed) is not int or not 0 <= seed <= SEED_MAX:
            yield from wrong_seed(seed)
        yield from self.wrong_class(values.get("class"))
        custom = values.get("id")
        if custom is not None and not (
            isinstance(custom, str) and 0 < len(custom) <= ID_CHARACTERS_MAX and custom.isprintable()
        ):
            words = f"id {shown(custom)}: expected text of 1 to {ID_CHARACTERS_MAX} printable characters"
            yield "id", "bad_id", words
        image_format = values.get("format")
        if image_format is not None:
            yield from wrong_format(image_format)
        if len(values) > len(FIELDS) or not values.keys() <= KNOWN:
            for name in values.keys() - KNOWN:
                yield name, "unknown_field", f"field {shown(name)}: expected some of {', '.join(FIELDS)}"

    def wrong_class(self, name: object) -> Iterator[tuple[str, str, str]]:
        """(field, code, text) unless the name is one of the model's classes, or None of a model without classes."""
        if isinstance(name, str) and name in self._classes:
            return
        known = ", ".join(self._names[:NAMES_MAX]) + (", …" if len(self._names) > NAMES_MAX else "")
        if name is None and self._classes:
            yield "class", "missing_field", f"no class, but model {self._model} has {len(self._names)}: {known}"
        elif not self._classes and name is not None:
            yield "class", "unknown_class", f"class {shown(name)}: model {self._model} has no classes; leave it out"
        elif name is not None:
            yield "class", "unknown_class", f"class {shown(name)}: model {self._model} knows {known}"


KNOWN = frozenset(FIELDS)


def wrong_seed(seed: object) -> Iterator[tuple[str, str, str]]:
    """(field, code, text) of a seed that is none."""
    if seed is None:
        yield "seed", "missing_field", "no seed; every line needs one"
    else:
        yield "seed", "bad_seed", f"seed {shown(seed)}: expected a whole number from 0 to {SEED_MAX:,}"


def wrong_format(image_format: object) -> Iterator[tuple[str, str, str]]:
    """(field, code, text) unless it is a format of pictures."""
    if image_format not in IMAGE_FORMATS:
        words = f"format {shown(image_format)}: expected one of {', '.join(IMAGE_FORMATS)}"
        yield "format", "unknown_format", words


def shown(value: object) -> str:
    """As much of a value as an error repeats."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
