"""A manifest as a whole: read as a stream, every line checked, nothing taken when one is wrong."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from aigc_core.errors import InvalidSpec, LineProblem, ManifestRefused
from aigc_core.jobs.manifest.blocks import BlockWriter
from aigc_core.jobs.manifest.check import LineCheck
from aigc_core.jobs.manifest.lines import Row, read_csv, read_jsonl
from aigc_core.jobs.manifest.matrix import read_matrix
from aigc_core.jobs.specs import COUNT_MAX, ImageFormat
from aigc_core.storage import layout
from aigc_core.storage.object_store import ObjectStore

READERS = {".csv": read_csv, ".jsonl": read_jsonl, ".ndjson": read_jsonl}
MATRIX_SUFFIXES = (".json", ".yaml", ".yml")

#: Problems that are kept to be shown; the others are only counted (and, when lines may be left out, stored).
PROBLEMS_MAX = 100

#: What waits for its upload does so in memory up to here, in bytes, and on disk beyond.
SPOOL_BYTES_MAX = 16 * 1024 * 1024

#: Blocks that are uploaded at a time.
UPLOADS_AT_ONCE = 16


@dataclass(slots=True)
class Manifest:
    """What was read. It holds temporary files: use it inside the `with` of `read_manifest`."""

    blocks: BlockWriter
    left_out: IO[bytes]  # JSONL of all problems, when wrong lines are left out
    skip_bad: bool  # leave wrong lines out instead of refusing all
    line_count: int = 0  # that say something: no header, no blank ones
    wrong_count: int = 0  # lines that are wrong
    problem_count: int = 0  # a line may have several
    problems: list[LineProblem] = field(default_factory=list)  # the first PROBLEMS_MAX
    formats: Counter[str] = field(default_factory=Counter)  # pictures by format

    @property
    def count(self) -> int:
        """Pictures."""
        return self.blocks.count

    def store(self, job_id: str, store: ObjectStore) -> None:
        """Put the blocks, and the lines that were left out, below the job."""
        batch = []
        for upload in self.blocks.uploads(job_id):
            batch.append(upload)
            if len(batch) == UPLOADS_AT_ONCE:
                store.put_many(batch)
                batch = []
        store.put_many(batch)
        if self.problem_count:
            self.left_out.seek(0)
            parts = iter(lambda: self.left_out.read(1_048_576), b"")
            store.put_stream(layout.refused_key(job_id), parts, content_type="application/x-ndjson")

    def remove(self, job_id: str, store: ObjectStore) -> None:
        """Undo `store`."""
        store.delete([*self.blocks.keys(job_id), layout.refused_key(job_id)])


@contextmanager
def read_manifest(
    path: Path, *, model: str, class_names: tuple[str, ...], image_format: ImageFormat, skip_bad: bool = False
) -> Iterator[Manifest]:
    """The checked manifest for a model of these classes.

    `ManifestRefused` when a line is wrong, or, with `skip_bad`, when no line is right; `InvalidSpec` when the file cannot be
    read. Lines count from 1; the header line of a CSV is line 1.
    """
    suffix = path.suffix.lower()
    if suffix not in (*READERS, *MATRIX_SUFFIXES):
        raise InvalidSpec(
            f"manifest {path}: expected .csv, .jsonl or .ndjson for a picture a line, .json, .yaml or .yml for a matrix"
        )
    check = LineCheck(model=model, class_names=class_names, image_format=image_format)
    with (
        tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES_MAX) as packed,
        tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES_MAX) as left_out,
    ):
        skips = skip_bad and suffix in READERS  # a wrong value of a matrix is no line that could be left out
        manifest = Manifest(blocks=BlockWriter(packed), left_out=left_out, skip_bad=skips)
        try:
            if suffix in MATRIX_SUFFIXES:
                _read_matrix(path, manifest, check, class_names=class_names, image_format=image_format)
            else:
                with path.open("rb", buffering=1 << 20) as file:
                    _read_lines(READERS[suffix](file), manifest, check, image_format=image_format)
        except OSError as error:
            raise InvalidSpec(f"manifest {path}: {error.strerror or error}; is it there, and may you read it?") from error
        _refuse_if_wrong(path, manifest)
        manifest.blocks.flush()
        yield manifest


def _read_lines(rows: Iterable[Row], manifest: Manifest, check: LineCheck, *, image_format: str) -> None:
    entry_of, add, formats = check.entry, manifest.blocks.add, manifest.formats
    for number, values in rows:
        manifest.line_count += 1
        if manifest.line_count > COUNT_MAX:
            words = f"more than {COUNT_MAX:,} pictures; order them in several manifests"
            _note(manifest, [LineProblem(line=number, field="", code="too_many_lines", text=words)])
            return
        entry = [values] if isinstance(values, LineProblem) else entry_of(number, values)
        if isinstance(entry, list):
            _note(manifest, entry)
        elif manifest.skip_bad or not manifest.problem_count:  # what will be refused is not packed any more
            add(entry)
            formats[entry.format or image_format] += 1


def _read_matrix(
    path: Path, manifest: Manifest, check: LineCheck, *, class_names: tuple[str, ...], image_format: str
) -> None:
    matrix = read_matrix(path, check, class_names=class_names, default_format=image_format)
    if isinstance(matrix, list):
        for problem in matrix:
            manifest.line_count += 1
            _note(manifest, [problem])
        return
    for entry in matrix.entries(default_format=image_format):
        manifest.blocks.add(entry)
        manifest.formats[entry.format or image_format] += 1
    manifest.line_count = manifest.count


def _note(manifest: Manifest, problems: list[LineProblem]) -> None:
    manifest.wrong_count += 1
    for problem in problems:
        manifest.problem_count += 1
        if len(manifest.problems) < PROBLEMS_MAX:
            manifest.problems.append(problem)
        if manifest.skip_bad:
            manifest.left_out.write(json.dumps(asdict(problem), separators=(",", ":")).encode() + b"\n")


def _refuse_if_wrong(path: Path, manifest: Manifest) -> None:
    problems, count = manifest.problems, manifest.problem_count
    too_many = manifest.line_count > COUNT_MAX
    if count and (not manifest.skip_bad or too_many or not manifest.count):
        said = f"{path}: {manifest.wrong_count:,} of {manifest.line_count:,} lines are wrong; nothing was ordered"
        listed = f" (the first {len(problems)} of {count:,} errors are listed)" if count > len(problems) else ""
        leave = "" if manifest.skip_bad or path.suffix.lower() in MATRIX_SUFFIXES else ", or leave them out with --skip-bad"
        raise ManifestRefused(f"{said}{listed}: mend them{leave}", problems=problems, problem_count=count)
    if not manifest.count:
        raise InvalidSpec(f"{path}: there is no line in it; expected a picture a line")
