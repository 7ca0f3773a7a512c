"""Does what is stored of a generation job agree with itself? Ledger, parts, results, pictures, checksums, papers.

Reads and never repairs. Memory: 10 bytes per picture of the order, a few parts, and results.jsonl.
"""

import json
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aigc_core.errors import InvalidSpec, NotFound
from aigc_core.generation import shard
from aigc_core.generation.encode import EXTENSIONS, sha256
from aigc_core.jobs.items import Item, items_of
from aigc_core.jobs.plan import chunk_count, chunk_range
from aigc_core.jobs.records import Job
from aigc_core.jobs.specs import IMAGE_FORMATS, GenerationSpec
from aigc_core.storage import layout
from aigc_core.storage.object_store import ObjectStore

#: Objects that are read at once, and ahead.
READ_THREADS = 16

#: Problems that are told; more are only counted.
PROBLEMS_MAX = 1_000

#: Codes. A job that still runs has no papers yet, and pictures of chunks in work are not extra.
CODES = (
    "part_missing", "part_damaged", "index_missing", "index_twice", "line_wrong",
    "object_missing", "object_size", "object_checksum", "object_extra",
    "manifest_damaged", "results_missing", "results_differ", "errors_differ", "summary_missing", "counts_differ",
)  # fmt: skip

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is not as it must be."""

    code: str  # one of CODES
    key: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was compared."""

    job_id: str
    items: int  # pictures that the parts tell of
    payload_bytes: int
    problem_count: int
    problems: tuple[Problem, ...]  # the first PROBLEMS_MAX


@dataclass(slots=True)
class Findings:
    """Problems as they are found."""

    count: int = 0
    kept: list[Problem] = field(default_factory=list)

    def add(self, code: str, key: str, text: str) -> None:
        self.count += 1
        if len(self.kept) < PROBLEMS_MAX:
            self.kept.append(Problem(code=code, key=key, text=text))


def verify(job_id: str, *, job: Job | None, done: set[int] | None, store: ObjectStore, quick: bool) -> Report:
    """Compare everything; `quick` compares names and sizes and reads no picture.

    `job` and `done` (committed chunks) as the ledger has them; None: S3 alone is judged. `NotFound` for a job without a
    spec, `InvalidSpec` for a training.
    """
    if job_id.startswith("t"):
        raise InvalidSpec(f"job {job_id} is a training; only generation jobs have pictures to verify")
    spec = GenerationSpec.from_json(store.get(layout.spec_key(job_id)))
    with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="verify") as threads:
        check = _Verification(job_id, spec, store=store, threads=threads, quick=quick)
        check.parts(done)
        # A job that was stopped leaves pictures of chunks that were never committed; they do no harm.
        check.names(is_over=job is None or (job.state.is_final and not job.stop))
        if job is not None:
            check.ledger(job)
        if job is None or job.state.is_final:
            check.papers(job)
    found = check.findings
    return Report(
        job_id=job_id,
        items=check.items,
        payload_bytes=check.payload_bytes,
        problem_count=found.count,
        problems=tuple(found.kept),
    )


class _Verification:
    """The sums over a job's parts, and what is compared with them."""

    def __init__(
        self, job_id: str, spec: GenerationSpec, *, store: ObjectStore, threads: ThreadPoolExecutor, quick: bool
    ) -> None:
        self.findings = Findings()
        self.items = self.payload_bytes = 0
        self._job_id, self._spec, self._store, self._threads, self._quick = job_id, spec, store, threads, quick
        self._committed: list[int] = []
        # Bytes of what must be there: of pictures by index, or of shards by chunk; -1: nothing must.
        places = spec.count if spec.packing == "objects" else chunk_count(spec.count, spec.chunk_items)
        self._sizes = array("q", [-1]) * places
        self._formats = bytearray([IMAGE_FORMATS.index(spec.format)]) * places  # of pictures by index

    def parts(self, done: set[int] | None) -> None:
        """Every committed chunk has a part with one right line per picture, and the pictures have its checksums."""
        if done is None:
            done = {int(info.key[-15:-6]) for info in self._store.scan(layout.parts_prefix(self._job_id))}
        self._committed = sorted(done)
        for chunk, part in zip(self._committed, self._ahead(self._part, self._committed), strict=True):
            key = layout.part_key(self._job_id, chunk)
            if part is None:
                self.findings.add("part_missing", key, "the ledger says that the chunk is committed")
                continue
            try:
                lines = [json.loads(line) for line in part.splitlines()]
                right = self._right_lines(chunk, key, lines)
                self._pictures(chunk, right)
            except (ValueError, KeyError, TypeError) as error:
                self.findings.add("part_damaged", key, f"{type(error).__name__}: {error}")
            except InvalidSpec as error:
                self.findings.add("manifest_damaged", key, f"what it should tell of is not known: {error}")

    def names(self, *, is_over: bool) -> None:
        """What must be there is there, with its size, and nothing else is."""
        seen = bytearray(len(self._sizes))
        for folder in ("images/", "shards/"):
            for info in self._store.scan(layout.job_prefix(self._job_id) + folder):
                place = self._place_of(info.key)
                if place is None or self._sizes[place] < 0:
                    if is_over or place is None:
                        self.findings.add("object_extra", info.key, "no result line of a committed chunk tells of it")
                    continue
                seen[place] = 1
                if info.size_bytes != self._sizes[place]:
                    text = f"{info.size_bytes} bytes, its result line says {self._sizes[place]}"
                    self.findings.add("object_size", info.key, text)
        for place, size in enumerate(self._sizes):
            if size >= 0 and not seen[place]:
                self.findings.add("object_missing", self._key_of(place), "its result line is there")

    def ledger(self, job: Job) -> None:
        """The ledger's counts are the sums of the parts."""
        found = {"completed": self.items, "payload_bytes": self.payload_bytes, "chunks_done": len(self._committed)}
        said = {
            "completed": job.counts.completed,
            "payload_bytes": job.counts.payload_bytes,
            "chunks_done": job.chunks_done,
        }
        self._compare("ledger", said, found)

    def papers(self, job: Job | None) -> None:
        """results.jsonl is the parts in order, errors.jsonl tells of the rest, summary.json has the counts."""
        key = layout.results_key(self._job_id)
        results = self._paper("results_missing", key)
        if results is not None and not self._is_parts(results):
            self.findings.add("results_differ", key, "it is not the result lines of the committed chunks, in order")
        key = layout.errors_key(self._job_id)
        errors = self._paper("errors_differ", key)
        if errors is not None:
            try:
                not_made = sum(int(json.loads(line)["count"]) for line in errors.splitlines())
            except (ValueError, KeyError, TypeError):
                not_made = -1
            if not_made + self.items != self._spec.count:
                text = f"{not_made:,} not made and {self.items:,} made are not the {self._spec.count:,} ordered"
                self.findings.add("errors_differ", key, text)
        key = layout.summary_key(self._job_id)
        summary = self._paper("summary_missing", key)
        if summary is not None:
            try:
                written = json.loads(summary)
                said = {name: written["counts"][name] for name in ("total", "completed", "payload_bytes")}
                said["state"] = written["state"]
            except (ValueError, KeyError, TypeError) as error:
                self.findings.add("counts_differ", key, f"it cannot be read ({type(error).__name__}: {error})")
                return
            found = {"total": self._spec.count, "completed": self.items, "payload_bytes": self.payload_bytes}
            self._compare(key, said, found | ({"state": str(job.state)} if job else {}))

    def _right_lines(self, chunk: int, key: str, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The lines of a part that say what the spec says, each index once."""
        right: dict[int, dict[str, Any]] = {}
        indexes = chunk_range(self._spec, chunk)
        items = items_of(self._spec, indexes, job_id=self._job_id, store=self._store)
        for line in lines:
            index = line["index"]
            if index in right:
                self.findings.add("index_twice", key, f"index {index}")
            elif what := self._wrong_in(chunk, line, items[index - indexes.start]) if index in indexes else "chunk":
                self.findings.add("line_wrong", key, f"index {index}: its {what} is not as ordered")
            else:
                right[index] = line
        for index in indexes:
            if index not in right:
                self.findings.add("index_missing", key, f"index {index}")
        self.items += len(right)
        self.payload_bytes += sum(line["bytes"] for line in right.values())
        return list(right.values())

    def _wrong_in(self, chunk: int, line: dict[str, Any], item: Item) -> str:
        """The first field that is not what was ordered; empty when all are."""
        if self._spec.packing == "tar":
            key = layout.shard_key(self._job_id, chunk)
        else:
            self._formats[item.index] = IMAGE_FORMATS.index(item.format)
            key = self._key_of(item.index)
        expected = item.facts | {"key": key}
        return next((name for name, value in expected.items() if line[name] != value), "")

    def _pictures(self, chunk: int, lines: list[dict[str, Any]]) -> None:
        """Note what must be there; and, unless quick, read it."""
        if self._spec.packing == "tar":
            if lines:
                self._sizes[chunk] = max(shard.end_of(line["offset"], line["bytes"]) for line in lines)
                if not self._quick:
                    self._check_shard(layout.shard_key(self._job_id, chunk), lines)
            return
        for line in lines:
            self._sizes[line["index"]] = line["bytes"]
        if not self._quick:
            for line, text in zip(lines, self._ahead(self._checksum, (line["key"] for line in lines)), strict=True):
                if text not in ("", line["sha256"]):
                    self.findings.add("object_checksum", line["key"], f"sha256 {text}, not that of its result line")

    def _check_shard(self, key: str, lines: list[dict[str, Any]]) -> None:
        payload = self._get(key)
        if payload is None:
            return  # told by `names`
        for line in lines:
            picture = payload[line["offset"] : line["offset"] + line["bytes"]]
            if sha256(picture) != line["sha256"]:
                self.findings.add("object_checksum", key, f"index {line['index']}: not the sha256 of its result line")

    def _place_of(self, key: str) -> int | None:
        """The index, or for shards the chunk, of which this is the key; None when it is the key of none."""
        stem, _, extension = key.rsplit("/", 1)[-1].partition(".")
        place = int(stem) if stem.isdecimal() else -1
        if not 0 <= place < len(self._sizes):
            return None
        # The format of a manifest's picture is known once its part has been read.
        open_format = self._spec.manifest_sha256 and self._spec.packing == "objects" and self._sizes[place] < 0
        if open_format and extension in EXTENSIONS.values():
            return place if layout.image_key(self._job_id, place, extension) == key else None
        return place if self._key_of(place) == key else None

    def _key_of(self, place: int) -> str:
        if self._spec.packing == "tar":
            return layout.shard_key(self._job_id, place)
        return layout.image_key(self._job_id, place, EXTENSIONS[IMAGE_FORMATS[self._formats[place]]])

    def _is_parts(self, results: bytes) -> bool:
        at = 0
        for part in self._ahead(self._part, self._committed):
            if not results.startswith(part or b"", at):
                return False
            at += len(part or b"")
        return at == len(results)

    def _compare(self, key: str, said: Mapping[str, object], found: Mapping[str, object]) -> None:
        for name, value in found.items():
            if said[name] != value:
                self.findings.add("counts_differ", key, f"{name} is {said[name]}, the parts give {value}")

    def _paper(self, code: str, key: str) -> bytes | None:
        payload = self._get(key)
        if payload is None:
            self.findings.add(code, key, "it is not there")
        return payload

    def _part(self, chunk: int) -> bytes | None:
        return self._get(layout.part_key(self._job_id, chunk))

    def _checksum(self, key: str) -> str:
        payload = self._get(key)
        return "" if payload is None else sha256(payload)

    def _get(self, key: str) -> bytes | None:
        try:
            return self._store.get(key)
        except NotFound:
            return None

    def _ahead(self, read: Callable[[T], R], what: Iterable[T]) -> Iterator[R]:
        """The answers in order, with 2 × READ_THREADS of them asked for ahead."""
        waiting: deque[Future[R]] = deque()
        for one in what:
            waiting.append(self._threads.submit(read, one))
            if len(waiting) > 2 * READ_THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
