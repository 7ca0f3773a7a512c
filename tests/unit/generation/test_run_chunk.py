"""From seeds to stored pictures, with a predictor that is a pure function."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from builders import a_generation_spec
from PIL import Image

from aigc_core.clock import SystemClock
from aigc_core.errors import Cancelled, InvalidSpec
from aigc_core.generation.encode import encode, sha256
from aigc_core.generation.finalise import finalise
from aigc_core.generation.latents import latents_from_seeds
from aigc_core.generation.predictor import FakePredictor
from aigc_core.generation.run_chunk import ChunkRunner
from aigc_core.jobs.execute import Heartbeat
from aigc_core.jobs.manifest.read import read_manifest
from aigc_core.jobs.memory_ledger import MemoryLedger
from aigc_core.jobs.plan import chunk_count
from aigc_core.jobs.records import By, Lease
from aigc_core.jobs.specs import GenerationSpec, ImageFormat
from aigc_core.jobs.states import JobKind
from aigc_core.storage import layout
from aigc_core.storage.memory import MemoryObjectStore


class Steady:
    """A heartbeat that lets the work go on for `beats` batches."""

    def __init__(self, beats: int = 10**9) -> None:
        self.beats = beats

    def check(self) -> None:
        self.beats -= 1
        if self.beats < 0:
            raise Cancelled("enough")


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


def run_all(
    spec: GenerationSpec,
    threads: ThreadPoolExecutor,
    predictor: FakePredictor | None = None,
    *,
    store: MemoryObjectStore | None = None,
) -> MemoryObjectStore:
    store = store or MemoryObjectStore()
    runner = ChunkRunner(predictor=predictor or FakePredictor(), store=store, clock=SystemClock(), threads=threads)
    for chunk in range(chunk_count(spec.count, spec.chunk_items)):
        runner.run(a_lease(spec, chunk), cast("Heartbeat", Steady()))
    return store


def a_lease(spec: GenerationSpec, chunk: int) -> Lease:
    return Lease(
        job_id="job", kind=JobKind.GENERATION, chunk=chunk, token=1, attempt=1, expires_at=0, spec_json=spec.to_json(),
        created_at=0, waited_seconds=0,
    )  # fmt: skip


def results(store: MemoryObjectStore) -> list[dict[str, object]]:
    parts = [store.get(info.key).decode() for info in store.scan(layout.parts_prefix("job"))]
    return [json.loads(line) for line in "".join(parts).splitlines()]


def test_every_item_has_one_object_and_one_line_with_its_checksum(threads: ThreadPoolExecutor) -> None:
    store = run_all(a_generation_spec(count=300), threads)
    lines = results(store)
    assert [line["index"] for line in lines] == list(range(300))
    assert len({line["key"] for line in lines}) == 300
    assert all(line["sha256"] == sha256(store.get(str(line["key"]))) for line in lines)


def test_a_tar_shard_holds_the_same_pictures_as_objects_would(threads: ThreadPoolExecutor) -> None:
    single = results(run_all(a_generation_spec(count=300), threads))
    store = run_all(a_generation_spec(count=300, packing="tar"), threads)
    packed = results(store)
    assert [line["sha256"] for line in packed] == [line["sha256"] for line in single]
    assert {str(line["key"]) for line in packed} == {layout.shard_key("job", chunk) for chunk in range(3)}
    for line in (packed[0], packed[150], packed[299]):
        start, size_bytes = cast("int", line["offset"]), cast("int", line["bytes"])
        assert sha256(store.get(str(line["key"]))[start : start + size_bytes]) == line["sha256"]


def test_a_tar_shard_opens_with_tarfile_as_pairs_of_picture_and_facts(threads: ThreadPoolExecutor) -> None:
    spec = a_generation_spec(count=130, packing="tar", class_names=("a", "b"), classes=("b", "a"))
    store = run_all(spec, threads)
    with tarfile.open(fileobj=io.BytesIO(store.get(layout.shard_key("job", 1)))) as tar:
        assert tar.getnames() == ["000000128.json", "000000128.png", "000000129.json", "000000129.png"]
        facts = json.load(cast("io.BufferedReader", tar.extractfile("000000129.json")))
        picture = Image.open(cast("io.BufferedReader", tar.extractfile("000000129.png")))
    assert facts == {"index": 129, "seed": 129, "class": "a"}
    assert picture.size == (8, 8)


def a_manifest(folder: Path, store: MemoryObjectStore, lines: list[dict[str, object]], **fields: object) -> GenerationSpec:
    """The order of these lines; they are stored below job "job"."""
    path = folder / "m.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with read_manifest(path, model="m", class_names=("a", "b"), image_format="png") as manifest:
        manifest.store("job", store)
        digest = manifest.blocks.sha256
    return a_generation_spec(count=len(lines), class_names=("a", "b"), manifest_sha256=digest, **fields)


@pytest.mark.parametrize("packing", ["objects", "tar"])
def test_a_picture_of_a_manifest_has_the_bytes_of_the_same_seed_and_class_ordered_by_count(
    threads: ThreadPoolExecutor, tmp_path: Path, packing: str
) -> None:
    # given seeds 0 to 299 of an order by count, and the same pictures backwards in a manifest
    fields = {"class_names": ("a", "b"), "classes": ("b", "a"), "packing": packing}
    plain = results(run_all(a_generation_spec(count=300, **fields), threads))
    lines = [{"seed": line["seed"], "class": line["class"], "id": f"n{line['seed']}"} for line in reversed(plain)]
    store = MemoryObjectStore()
    # when the manifest is made
    run_all(a_manifest(tmp_path, store, lines, packing=packing), threads, store=store)
    # then every picture is what it was, under its own id
    made = results(store)
    assert [line["sha256"] for line in made] == [line["sha256"] for line in reversed(plain)]
    assert [(line["index"], line["id"]) for line in made] == [(place, f"n{299 - place}") for place in range(300)]


def test_a_picture_of_a_manifest_is_of_the_class_of_its_line(threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    store = MemoryObjectStore()
    lines: list[dict[str, object]] = [{"seed": 1, "class": name} for name in ("a", "b", "a")]
    run_all(a_manifest(tmp_path, store, lines), threads, store=store)
    first, second, third = (line["sha256"] for line in results(store))
    assert first == third != second


def test_lines_of_a_manifest_have_formats_of_their_own(threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    lines: list[dict[str, object]] = [{"seed": 1, "class": "a", "format": name} for name in ("webp", "png", "jpeg")]
    store = MemoryObjectStore()
    run_all(a_manifest(tmp_path, store, lines), threads, store=store)
    keys = [str(line["key"]) for line in results(store)]
    assert [key.rsplit(".")[-1] for key in keys] == ["webp", "png", "jpg"]
    assert [Image.open(io.BytesIO(store.get(key))).format for key in keys] == ["WEBP", "PNG", "JPEG"]


def finished(spec: GenerationSpec, threads: ThreadPoolExecutor, *, commit: Callable[[int], bool]) -> MemoryObjectStore:
    """A job of which the chunks that `commit` names were committed; it is cancelled unless that was all, and finalised."""
    store, ledger = MemoryObjectStore(), MemoryLedger(SystemClock())
    runner = ChunkRunner(predictor=FakePredictor(), store=store, clock=SystemClock(), threads=threads)
    ledger.submit("job", spec, idempotency_key="job")
    for _ in range(chunk_count(spec.count, spec.chunk_items)):
        lease = ledger.claim(JobKind.GENERATION, worker="w", lease_seconds=60)
        assert lease is not None
        report = runner.run(lease, cast("Heartbeat", Steady()))
        if commit(lease.chunk):
            ledger.complete(lease, report)
        else:
            ledger.snooze(lease, delay_seconds=1_000, waiting_for="a test")
    if not all(map(commit, range(chunk_count(spec.count, spec.chunk_items)))):
        ledger.cancel("job", By(who="tester"))
    finalise(ledger.job("job"), ledger=ledger, store=store, clock=SystemClock())
    return store


def test_the_contact_sheet_of_packed_pictures_is_that_of_single_ones(threads: ThreadPoolExecutor) -> None:
    sheets = []
    for packing in ("objects", "tar"):
        store = finished(a_generation_spec(count=70, packing=packing), threads, commit=lambda _: True)
        sheets.append(store.get(layout.contact_sheet_key("job")))
    assert sheets[0] == sheets[1]


def test_papers_tell_of_committed_chunks_only_and_add_up(threads: ThreadPoolExecutor) -> None:
    # given a worker that died between storing its result lines and its commit, in a job that is cancelled then
    store = finished(a_generation_spec(count=256), threads, commit=lambda chunk: chunk == 0)
    # then its pictures are not among the results, but among what was not made
    lines = store.get(layout.results_key("job")).decode().splitlines()
    assert [json.loads(line)["index"] for line in lines] == list(range(128))
    (error,) = map(json.loads, store.get(layout.errors_key("job")).decode().splitlines())
    assert (error["first_index"], error["count"], error["code"]) == (128, 128, "cancelled")
    counts = json.loads(store.get(layout.summary_key("job")))["counts"]
    assert (counts["completed"], counts["failed"], counts["not_made"]) == (128, 0, 128)


def test_a_cancelled_chunk_leaves_no_half_shard(threads: ThreadPoolExecutor) -> None:
    spec, store = a_generation_spec(count=512, chunk_items=512, packing="tar"), MemoryObjectStore()
    runner = ChunkRunner(predictor=FakePredictor(), store=store, clock=SystemClock(), threads=threads)
    with pytest.raises(Cancelled):
        runner.run(a_lease(spec, 0), cast("Heartbeat", Steady(beats=2)))
    assert store.put_count == 0


def test_the_bytes_of_a_picture_do_not_depend_on_the_chunk_size(threads: ThreadPoolExecutor) -> None:
    small = results(run_all(a_generation_spec(count=300, chunk_items=64), threads))
    large = results(run_all(a_generation_spec(count=300, chunk_items=512), threads))
    assert [line["sha256"] for line in small] == [line["sha256"] for line in large]


def test_the_last_batch_is_padded_to_the_one_shape(threads: ThreadPoolExecutor) -> None:
    predictor = FakePredictor()
    run_all(a_generation_spec(count=65, chunk_items=128), threads, predictor)
    assert predictor.request_count == 2


def test_a_cancelled_chunk_stops_before_its_next_batch_and_leaves_no_result_lines(threads: ThreadPoolExecutor) -> None:
    spec, store = a_generation_spec(count=512, chunk_items=512), MemoryObjectStore()
    runner = ChunkRunner(predictor=FakePredictor(), store=store, clock=SystemClock(), threads=threads)
    with pytest.raises(Cancelled):
        runner.run(a_lease(spec, 0), cast("Heartbeat", Steady(beats=2)))
    assert store.put_count == 128
    assert results(store) == []


def test_pictures_of_another_size_than_the_card_says_are_refused(threads: ThreadPoolExecutor) -> None:
    with pytest.raises(InvalidSpec, match="publish the model again"):
        run_all(a_generation_spec(width=16, height=16), threads)


def test_latents_are_a_function_of_their_own_seed_and_never_change() -> None:
    alone, among = latents_from_seeds([7], 4), latents_from_seeds([3, 7, 2**63 - 1], 4)
    assert (alone[0] == among[1]).all()
    assert alone.dtype == np.float32
    expected = np.float32(GOLDEN)
    assert alone[0] == pytest.approx(expected, abs=0), "NumPy draws other numbers now: every picture would change"


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_opens_again_and_gives_the_same_bytes_twice(image_format: ImageFormat, channels: int) -> None:
    levels = np.linspace(0, 255, 32 * 16 * channels).astype(np.uint8).reshape(32, 16, channels)
    payload = encode(levels, image_format)
    opened = Image.open(io.BytesIO(payload))
    assert opened.size == (16, 32)
    assert payload == encode(levels.copy(), image_format)
    if image_format == "png":
        assert (np.asarray(opened).reshape(levels.shape) == levels).all()


#: latents_from_seeds([7], 4) with NumPy 2.4.
GOLDEN = [-0.2933390140533447, 1.703830599784851, 1.5391918420791626, 0.6367538571357727]
