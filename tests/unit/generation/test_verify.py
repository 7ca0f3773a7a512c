"""`verify` finds each thing that is broken on purpose, names it by its code, and says nothing of a job that is whole."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from builders import a_generation_spec

from aigc_core.clock import SystemClock
from aigc_core.errors import InvalidSpec, NotFound
from aigc_core.generation.finalise import finalise
from aigc_core.generation.predictor import FakePredictor
from aigc_core.generation.run_chunk import ChunkRunner
from aigc_core.generation.verify import Report, verify
from aigc_core.jobs.execute import Heartbeat
from aigc_core.jobs.manifest.read import read_manifest
from aigc_core.jobs.memory_ledger import MemoryLedger
from aigc_core.jobs.records import FINALISE, By
from aigc_core.jobs.states import JobKind, JobState
from aigc_core.storage import layout
from aigc_core.storage.memory import MemoryObjectStore

JOB = "g1"


class Ended:
    """A job of 300 pictures in 3 chunks, run to its end in memory."""

    def __init__(
        self,
        threads: ThreadPoolExecutor,
        *,
        packing: str = "objects",
        cancel_after: int = 99,
        manifest: Path | None = None,
    ) -> None:
        self.ledger, self.store = MemoryLedger(SystemClock()), MemoryObjectStore()
        digest = "" if manifest is None else self.put_manifest(manifest)
        spec = a_generation_spec(count=300, packing=packing, manifest_sha256=digest)
        self.store.put(layout.spec_key(JOB), spec.to_json().encode())
        self.ledger.submit(JOB, spec, idempotency_key=JOB)
        clock = SystemClock()
        runner = ChunkRunner(predictor=FakePredictor(), store=self.store, clock=clock, threads=threads)
        while (lease := self.ledger.claim(JobKind.GENERATION, worker="w", lease_seconds=60)) is not None:
            if lease.chunk == FINALISE:
                report = finalise(self.ledger.job(JOB), ledger=self.ledger, store=self.store, clock=clock)
            else:
                report = runner.run(lease, cast("Heartbeat", Steady()))
            self.ledger.complete(lease, report)
            if lease.chunk == cancel_after:
                self.ledger.cancel(JOB, By(who="tester"))

    def put_manifest(self, path: Path) -> str:
        with read_manifest(path, model="m", class_names=(), image_format="png") as manifest:
            manifest.store(JOB, self.store)
            return manifest.blocks.sha256

    def verified(self, *, quick: bool = False) -> Report:
        done = self.ledger.done_chunks(JOB)
        return verify(JOB, job=self.ledger.job(JOB), done=done, store=self.store, quick=quick)

    def codes(self, *, quick: bool = False) -> set[str]:
        return {problem.code for problem in self.verified(quick=quick).problems}

    def lines(self, chunk: int) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.store.get(layout.part_key(JOB, chunk)).splitlines()]

    def put_lines(self, chunk: int, lines: list[dict[str, object]]) -> None:
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        self.store.put(layout.part_key(JOB, chunk), text.encode())


class Steady:
    def check(self) -> None:
        """Go on."""


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


@pytest.mark.parametrize("packing", ["objects", "tar"])
@pytest.mark.parametrize("quick", [True, False], ids=["quick", "whole"])
def test_a_job_that_is_whole_has_no_problem(threads: ThreadPoolExecutor, packing: str, quick: bool) -> None:
    report = Ended(threads, packing=packing).verified(quick=quick)
    assert (report.problem_count, report.items) == (0, 300)
    assert report.payload_bytes > 0


def test_a_cancelled_job_with_what_it_made_has_no_problem(threads: ThreadPoolExecutor) -> None:
    ended = Ended(threads, cancel_after=1)
    assert (ended.codes(), ended.verified().items) == (set(), 256)


def image(index: int) -> str:
    return layout.image_key(JOB, index, "png")


def set_line(ended: Ended, chunk: int, **fields: object) -> None:
    lines = ended.lines(chunk)
    ended.put_lines(chunk, [lines[0] | fields, *lines[1:]])


def flip(ended: Ended, key: str, at: int = -1) -> None:
    """Another byte in the middle of an object, the size as before."""
    payload = bytearray(ended.store.get(key))
    payload[at] ^= 1
    ended.store.put(key, bytes(payload))


def append(ended: Ended, key: str) -> None:
    ended.store.put(key, ended.store.get(key) + b"x")


def set_count(ended: Ended, name: str, value: object) -> None:
    summary = json.loads(ended.store.get(layout.summary_key(JOB)))
    summary["counts"][name] = value
    ended.store.put(layout.summary_key(JOB), json.dumps(summary).encode())


BROKEN: list[tuple[str, str, Callable[[Ended], None], set[str]]] = [
    ("part gone", "objects", lambda e: e.store.delete([layout.part_key(JOB, 1)]), {"part_missing"}),
    ("part cut", "objects", lambda e: e.store.put(layout.part_key(JOB, 1), b'{"index": 1'), {"part_damaged"}),
    ("line gone", "objects", lambda e: e.put_lines(1, e.lines(1)[1:]), {"index_missing"}),
    ("line twice", "objects", lambda e: e.put_lines(1, [*e.lines(1), e.lines(1)[0]]), {"index_twice"}),
    ("other seed", "objects", lambda e: set_line(e, 1, seed=7), {"line_wrong"}),
    ("other class", "objects", lambda e: set_line(e, 1, **{"class": "cat"}), {"line_wrong"}),
    ("other key", "objects", lambda e: set_line(e, 1, key=image(0)), {"line_wrong"}),
    ("picture gone", "objects", lambda e: e.store.delete([image(130)]), {"object_missing"}),
    ("picture cut", "objects", lambda e: e.store.put(image(130), e.store.get(image(130))[:-1]), {"object_size"}),
    ("picture too many", "objects", lambda e: e.store.put(image(300), b"x"), {"object_extra"}),
    ("shard too many", "objects", lambda e: e.store.put(layout.shard_key(JOB, 0), b"x"), {"object_extra"}),
    ("strange name", "objects", lambda e: e.store.put(layout.job_prefix(JOB) + "images/a.png", b"x"), {"object_extra"}),
    ("shard gone", "tar", lambda e: e.store.delete([layout.shard_key(JOB, 2)]), {"object_missing"}),
    ("shard cut", "tar", lambda e: e.store.put(layout.shard_key(JOB, 2), b"x" * 512), {"object_size"}),
    ("results gone", "objects", lambda e: e.store.delete([layout.results_key(JOB)]), {"results_missing"}),
    ("results changed", "objects", lambda e: flip(e, layout.results_key(JOB)), {"results_differ"}),
    ("results longer", "objects", lambda e: append(e, layout.results_key(JOB)), {"results_differ"}),
    ("errors gone", "objects", lambda e: e.store.delete([layout.errors_key(JOB)]), {"errors_differ"}),
    ("errors too many", "objects", lambda e: e.store.put(layout.errors_key(JOB), b'{"count":5}\n'), {"errors_differ"}),
    ("summary gone", "objects", lambda e: e.store.delete([layout.summary_key(JOB)]), {"summary_missing"}),
    ("summary wrong", "objects", lambda e: set_count(e, "completed", 299), {"counts_differ"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "packing", "damage", "codes"), BROKEN, ids=[case[0] for case in BROKEN])
def test_what_is_broken_is_found_by_a_quick_look_too(
    threads: ThreadPoolExecutor, name: str, packing: str, damage: Callable[[Ended], None], codes: set[str]
) -> None:
    ended = Ended(threads, packing=packing)
    damage(ended)
    assert codes <= ended.codes(quick=True)
    assert codes <= ended.codes()


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """300 pictures with ids, every other one as WebP."""
    lines = [f"{1_000 - n},n{n},{'webp' if n % 2 else ''}\n" for n in range(300)]
    (tmp_path / "m.csv").write_text("seed,id,format\n" + "".join(lines))
    return tmp_path / "m.csv"


@pytest.mark.parametrize("packing", ["objects", "tar"])
def test_the_pictures_of_a_manifest_are_those_of_its_lines(
    threads: ThreadPoolExecutor, manifest: Path, packing: str
) -> None:
    ended = Ended(threads, packing=packing, manifest=manifest)
    assert (ended.codes(), ended.verified().items) == (set(), 300)
    set_line(ended, 1, id="other")
    assert "line_wrong" in ended.codes(quick=True)
    ended.store.delete([layout.manifest_key(JOB, 0)])
    assert "manifest_damaged" in ended.codes(quick=True)


def test_a_picture_of_a_manifest_in_another_format_is_one_too_many(threads: ThreadPoolExecutor, manifest: Path) -> None:
    ended = Ended(threads, manifest=manifest)
    ended.store.put(layout.image_key(JOB, 5, "png"), b"x")
    assert ended.codes() == {"object_extra"}


def test_a_picture_of_a_manifest_whose_chunk_is_in_work_is_not_one_too_many(
    threads: ThreadPoolExecutor, manifest: Path
) -> None:
    ended = Ended(threads, manifest=manifest, cancel_after=1)
    running = replace(ended.ledger.job(JOB), state=JobState.RUNNING)
    ended.store.put(layout.image_key(JOB, 299, "webp"), b"x")
    report = verify(JOB, job=running, done=ended.ledger.done_chunks(JOB), store=ended.store, quick=True)
    assert report.problems == ()


@pytest.mark.parametrize("packing", ["objects", "tar"])
def test_a_changed_byte_is_found_where_bytes_are_read(threads: ThreadPoolExecutor, packing: str) -> None:
    ended = Ended(threads, packing=packing)
    line = ended.lines(1)[5]
    flip(ended, str(line["key"]), int(str(line.get("offset", 0))) + 3)
    assert ended.codes(quick=True) == set()
    assert ended.codes() == {"object_checksum"}


def test_a_ledger_that_counted_otherwise_is_found(threads: ThreadPoolExecutor) -> None:
    ended = Ended(threads)
    report = verify(JOB, job=ended.ledger.job(JOB), done={0, 1}, store=ended.store, quick=True)
    assert "counts_differ" in {problem.code for problem in report.problems}


def test_a_job_that_the_ledger_forgot_is_judged_by_s3_alone(threads: ThreadPoolExecutor) -> None:
    ended = Ended(threads)
    assert verify(JOB, job=None, done=None, store=ended.store, quick=False).problem_count == 0
    ended.store.delete([image(0)])
    (problem,) = verify(JOB, job=None, done=None, store=ended.store, quick=True).problems
    assert (problem.code, problem.key) == ("object_missing", image(0))


def test_what_has_no_pictures_is_refused() -> None:
    with pytest.raises(NotFound):
        verify("g2", job=None, done=None, store=MemoryObjectStore(), quick=True)
    with pytest.raises(InvalidSpec, match="training"):
        verify("t2", job=None, done=None, store=MemoryObjectStore(), quick=True)
