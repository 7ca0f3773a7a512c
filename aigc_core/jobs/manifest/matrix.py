"""A matrix: every class with every seed in every format, from a small JSON or YAML file.

classes: [cups, plates]      # without it all of the model's
seeds: [7, 100-199]          # numbers, and runs of them, both ends included
formats: [png, webp]         # without it the order's
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aigc_core.errors import InvalidSpec, LineProblem
from aigc_core.jobs.manifest.check import Entry, LineCheck, shown, wrong_format, wrong_seed
from aigc_core.jobs.manifest.lines import SEED_DIGITS_MAX
from aigc_core.jobs.specs import COUNT_MAX, SEED_MAX

MATRIX_BYTES_MAX = 262_144

AXES = ("classes", "seeds", "formats")


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """The axes; the order of the pictures is class by class, seed by seed."""

    classes: tuple[str | None, ...]
    seeds: tuple[range, ...]
    formats: tuple[str, ...]

    @property
    def count(self) -> int:
        """Pictures."""
        return len(self.classes) * sum(map(len, self.seeds)) * len(self.formats)

    def entries(self, *, default_format: str) -> Iterator[Entry]:
        """Every cell once."""
        for class_name in self.classes:
            for seed, image_format in itertools.product(itertools.chain(*self.seeds), self.formats):
                yield Entry(seed, class_name, "", "" if image_format == default_format else image_format)


def read_matrix(
    path: Path, check: LineCheck, *, class_names: tuple[str, ...], default_format: str
) -> Matrix | list[LineProblem]:
    """The axes of the file, or everything that is wrong in it, by line. `InvalidSpec` for a file that cannot be read."""
    axes: dict[str, list[tuple[int, str]]] = {}
    problems: list[LineProblem] = []
    for row in _axes(_text_of(path)):
        if isinstance(row, LineProblem):
            problems.append(row)
        else:
            axes[row[0]] = row[1]
    if not problems and "seeds" not in axes:
        problems.append(LineProblem(line=1, field="seeds", code="missing_field", text="no `seeds`; a matrix needs some"))
    seeds: list[range] = []
    for line, text in axes.get("seeds", []):
        run = _run(text)
        if run is None:
            problems += [LineProblem(line=line, field=f, code=c, text=t) for f, c, t in wrong_seed(text)]
        else:
            seeds.append(run)
    for line, text in axes.get("classes", []):
        problems += [LineProblem(line=line, field=f, code=c, text=t) for f, c, t in check.wrong_class(text)]
    for line, text in axes.get("formats", []):
        problems += [LineProblem(line=line, field=f, code=c, text=t) for f, c, t in wrong_format(text)]
    if problems:
        return sorted(problems, key=lambda problem: problem.line)
    matrix = Matrix(
        classes=tuple(text for _, text in axes.get("classes", [])) or class_names or (None,),
        seeds=tuple(seeds),
        formats=tuple(text for _, text in axes.get("formats", [])) or (default_format,),
    )
    if matrix.count > COUNT_MAX:
        words = f"{matrix.count:,} pictures, an order has at most {COUNT_MAX:,}"
        return [LineProblem(line=1, field="", code="too_many_lines", text=words)]
    return matrix


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        payload = file.read(MATRIX_BYTES_MAX + 1)
    if len(payload) > MATRIX_BYTES_MAX:
        raise InvalidSpec(
            f"{path}: a matrix of more than {MATRIX_BYTES_MAX:,} bytes; a list of single pictures goes into .csv or .jsonl"
        )
    try:
        # A tab is white space of JSON, but not of YAML; in a string neither lets it stand as it is.
        return payload.decode("utf-8-sig").replace("\t", " ")
    except UnicodeDecodeError as error:
        raise InvalidSpec(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error


def _axes(text: str) -> Iterator[tuple[str, list[tuple[int, str]]] | LineProblem]:
    """(name, its values as they are written, with their lines) of every axis."""
    import yaml  # only who orders by matrix needs it: not every role has it

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or type(error).__name__
        line = mark.line + 1 if mark else 1
        yield LineProblem(line=line, field="", code="bad_yaml", text=f"neither YAML nor JSON ({reason})")
        return
    if not isinstance(root, yaml.MappingNode):
        yield LineProblem(line=1, field="", code="bad_yaml", text=f"expected the lists {', '.join(AXES)}")
        return
    known: set[str] = set()
    for key, value in root.value:
        line, name = key.start_mark.line + 1, str(key.value)
        if name not in AXES:
            words = f"field {shown(name)}: expected some of {', '.join(AXES)}"
            yield LineProblem(line=line, field=name[:80], code="unknown_field", text=words)
        elif name in known:
            yield LineProblem(line=line, field=name, code="repeated_field", text=f"`{name}` is there twice")
        elif not isinstance(value, yaml.SequenceNode) or not value.value:
            yield LineProblem(line=line, field=name, code="bad_list", text=f"`{name}`: expected a list with a value or more")
        elif wrong := [part for part in value.value if not isinstance(part, yaml.ScalarNode)]:
            at = wrong[0].start_mark.line + 1
            yield LineProblem(line=at, field=name, code="bad_list", text=f"`{name}`: expected single values in the list")
        else:
            known.add(name)
            yield name, [(part.start_mark.line + 1, str(part.value)) for part in value.value]


def _run(text: str) -> range | None:
    """`7` or `100-199`; None when it is neither."""
    first, dash, last = (part.strip() for part in text.partition("-"))
    for part in (first, last) if dash else (first,):
        if not (part.isascii() and part.isdigit() and len(part) <= SEED_DIGITS_MAX):
            return None
    run = range(int(first), int(last or first) + 1)
    return run if run and run[-1] <= SEED_MAX else None
