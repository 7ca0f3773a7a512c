"""CSV and JSONL, line by line: from bytes to the values of one picture. Memory does not grow with the file."""

import csv
import json
from collections.abc import Iterator
from typing import IO

from aigc_core.errors import LineProblem

#: A longer line is no description of one picture, in bytes.
LINE_BYTES_MAX = 65_536

FIELDS = ("seed", "class", "id", "format")

#: Digits of the largest seed.
SEED_DIGITS_MAX = 19

#: One line: its number from 1, and its values by field or what is wrong with it. What is empty or null is not given.
Row = tuple[int, dict[str, object] | LineProblem]


def numbered_lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Every line that is not blank with its number; of a line that is too long, its beginning."""
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        rest = line
        while len(rest) > LINE_BYTES_MAX and not rest.endswith(b"\n"):
            rest = file.readline(LINE_BYTES_MAX + 1)
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")  # how spreadsheets mark UTF-8
        if not line.isspace():
            yield number, line


def read_jsonl(file: IO[bytes]) -> Iterator[Row]:
    """One JSON object a line."""
    for number, line in numbered_lines(file):
        text = _text(number, line)
        yield number, _object(number, text) if isinstance(text, str) else text


def read_csv(file: IO[bytes]) -> Iterator[Row]:
    """A header, which is line 1, then a picture a line; a quoted cell may hold commas and quotes, but no line breaks.

    A header that is wrong is all that is told: every line below it would be.
    """
    header: list[str] | None = None
    for number, line in numbered_lines(file):
        text = _text(number, line)
        cells = _cells(number, text) if isinstance(text, str) else text
        if header is None:
            wrong = [cells] if isinstance(cells, LineProblem) else list(_wrong_header(number, cells))
            if wrong:
                yield from ((number, problem) for problem in wrong)
                return
            assert not isinstance(cells, LineProblem)
            header = [cell.strip() for cell in cells]
        elif isinstance(cells, LineProblem):
            yield number, cells
        elif len(cells) != len(header):
            words = f"{len(cells)} cells, but the header has {len(header)}; quote a cell that holds a comma"
            yield number, LineProblem(line=number, field="", code="bad_csv", text=words)
        else:
            yield number, _values(header, cells)


def _text(number: int, line: bytes) -> str | LineProblem:
    if len(line) > LINE_BYTES_MAX:
        words = f"more than {LINE_BYTES_MAX:,} bytes; expected one picture a line"
        return LineProblem(line=number, field="", code="too_long", text=words)
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        words = f"not UTF-8 ({error.reason} at byte {error.start}); save the file as UTF-8"
        return LineProblem(line=number, field="", code="bad_encoding", text=words)


def _object(number: int, text: str) -> dict[str, object] | LineProblem:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        words = f"not JSON ({error}); expected one object a line"
        return LineProblem(line=number, field="", code="bad_json", text=words)
    if not isinstance(values, dict):
        words = f'expected an object like {{"seed":1}}, got {type(values).__name__}'
        return LineProblem(line=number, field="", code="bad_json", text=words)
    return values


def _cells(number: int, text: str) -> list[str] | LineProblem:
    if '"' not in text:
        return text.rstrip("\r\n").split(",")
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        words = f"not CSV ({error}); a quote inside a quoted cell is doubled, a cell has no line breaks"
        return LineProblem(line=number, field="", code="bad_csv", text=words)


def _wrong_header(number: int, cells: list[str]) -> Iterator[LineProblem]:
    names = [cell.strip() for cell in cells]
    for place, name in enumerate(names):
        if name not in FIELDS:
            words = f"column {name!r}: expected some of {', '.join(FIELDS)} in the header line"
            yield LineProblem(line=number, field=name, code="unknown_field", text=words)
        elif name in names[:place]:
            yield LineProblem(line=number, field=name, code="repeated_field", text=f"column {name!r} is there twice")
    if "seed" not in names:
        words = "no column `seed`; the header line names the columns"
        yield LineProblem(line=number, field="seed", code="missing_field", text=words)


def _values(header: list[str], cells: list[str]) -> dict[str, object]:
    """The cells by column; a whole number in `seed` is one, everything else stays text for the check to refuse."""
    values: dict[str, object] = {name: cell for name, cell in zip(header, map(str.strip, cells), strict=True) if cell}
    seed = values.get("seed")
    if isinstance(seed, str) and seed.isascii() and seed.isdigit() and len(seed) <= SEED_DIGITS_MAX:
        values["seed"] = int(seed)
    return values
