"""What a manifest says, what is refused in it and how, and that its pictures come back as they were ordered."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from builders import a_generation_spec
from hypothesis import given
from hypothesis import strategies as st

from aigc_core.errors import InvalidSpec, ManifestRefused, NotFound
from aigc_core.jobs.items import Item, items_of
from aigc_core.jobs.manifest import read as manifest_read
from aigc_core.jobs.manifest.blocks import BLOCK_ITEMS
from aigc_core.jobs.manifest.check import Entry, SeenIds
from aigc_core.jobs.manifest.lines import LINE_BYTES_MAX
from aigc_core.jobs.manifest.read import PROBLEMS_MAX, Manifest, read_manifest
from aigc_core.jobs.plan import chunk_count, chunk_range
from aigc_core.jobs.specs import BATCH_ITEMS, SEED_MAX
from aigc_core.storage import layout
from aigc_core.storage.memory import MemoryObjectStore

CLASSES = ("cups", "plates")


def stored(path: Path, *, classes: Sequence[str] = CLASSES, skip_bad: bool = False) -> tuple[Manifest, MemoryObjectStore]:
    """The manifest, read and put below job "job"."""
    store = MemoryObjectStore()
    with read_manifest(path, model="m", class_names=tuple(classes), image_format="png", skip_bad=skip_bad) as manifest:
        manifest.store("job", store)
    return manifest, store


def items(store: MemoryObjectStore, count: int, *, chunk_items: int = 128) -> list[Item]:
    """All items of job "job", chunk by chunk, as workers read them."""
    spec = a_generation_spec(count=count, chunk_items=chunk_items, class_names=CLASSES, manifest_sha256="0" * 64)
    chunks = range(chunk_count(count, chunk_items))
    return [item for chunk in chunks for item in items_of(spec, chunk_range(spec, chunk), job_id="job", store=store)]


def refusal(path: Path, *, classes: Sequence[str] = CLASSES, skip_bad: bool = False) -> ManifestRefused:
    with pytest.raises(ManifestRefused) as caught:
        stored(path, classes=classes, skip_bad=skip_bad)
    return caught.value


def file(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# What is taken


def test_a_csv_and_the_same_lines_as_jsonl_are_the_same_order(tmp_path: Path) -> None:
    rows = [
        {"seed": 7, "class": "cups", "id": "a,1"},
        {"class": "plates", "seed": SEED_MAX, "id": None},
        {"seed": 0, "class": "cups", "format": "webp"},
        {"seed": 1, "class": "cups", "format": "png"},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    as_jsonl, store = stored(file(tmp_path, "m.jsonl", lines))
    text = f'\ufeffclass, seed,id,format\r\ncups,7,"a,1",\r\n\r\nplates,{SEED_MAX},,\r\ncups,0,,webp\r\ncups,1,,png'
    as_csv, _ = stored(file(tmp_path, "m.csv", text))
    assert as_csv.blocks.sha256 == as_jsonl.blocks.sha256
    assert items(store, 4) == [
        Item(index=0, seed=7, class_name="cups", format="png", id="a,1"),
        Item(index=1, seed=SEED_MAX, class_name="plates", format="png"),
        Item(index=2, seed=0, class_name="cups", format="webp"),
        Item(index=3, seed=1, class_name="cups", format="png"),
    ]
    assert as_csv.formats == {"png": 3, "webp": 1}


def test_another_line_or_another_order_of_lines_is_another_digest(tmp_path: Path) -> None:
    texts = ['{"seed":1}\n{"seed":2}\n', '{"seed":2}\n{"seed":1}\n', '{"seed":1}\n{"seed":2,"id":"a"}\n', '{"seed":1}\n']
    digests = {stored(file(tmp_path, "m.jsonl", text), classes=())[0].blocks.sha256 for text in texts}
    assert len(digests) == len(texts)


@pytest.mark.parametrize("name", ["m.yaml", "m.json"])
def test_a_matrix_is_every_class_with_every_seed_in_every_format(tmp_path: Path, name: str) -> None:
    text = "classes: [cups, plates]\nseeds: [7, 100-101]\nformats: [png, jpeg]\n"
    if name == "m.json":
        text = '{\n\t"classes": ["cups", "plates"],\n\t"seeds": [7, "100-101"],\n\t"formats": ["png", "jpeg"]\n}'
    manifest, store = stored(file(tmp_path, name, text))
    assert manifest.count == 12
    found = [(item.class_name, item.seed, item.format) for item in items(store, 12)]
    assert found == [(c, s, f) for c in CLASSES for s in (7, 100, 101) for f in ("png", "jpeg")]


def test_a_matrix_without_classes_or_formats_takes_those_of_model_and_order(tmp_path: Path) -> None:
    _, store = stored(file(tmp_path, "m.yml", "seeds: [3]\n"))
    assert [(item.class_name, item.format) for item in items(store, 2)] == [("cups", "png"), ("plates", "png")]


@given(
    entries=st.lists(
        st.builds(
            Entry,
            st.integers(0, SEED_MAX),
            st.sampled_from(CLASSES),
            st.text(max_size=20).filter(lambda text: not text or text.isprintable()),
            st.sampled_from(["", "webp"]),
        ),
        min_size=1,
        max_size=300,
        unique_by=lambda entry: entry.id or entry,
    ),
    batches_per_chunk=st.integers(1, 3),
)
def test_every_line_is_exactly_one_item_of_exactly_one_chunk(entries: list[Entry], batches_per_chunk: int) -> None:
    lines = [
        json.dumps({"seed": e.seed, "class": e.class_name, "id": e.id or None, "format": e.format or None}) + "\n"
        for e in entries
    ]
    with tempfile.TemporaryDirectory() as folder:
        _, store = stored(file(Path(folder), "m.jsonl", "".join(lines)))
    found = items(store, len(entries), chunk_items=batches_per_chunk * BATCH_ITEMS)
    assert [item.index for item in found] == list(range(len(entries)))
    wanted = [Entry(e.seed, e.class_name, e.id, e.format or "png") for e in entries]
    assert [Entry(item.seed, item.class_name, item.id, item.format) for item in found] == wanted


def test_chunks_that_begin_and_end_inside_blocks_get_their_own_lines(tmp_path: Path) -> None:
    count = 2 * BLOCK_ITEMS + 5
    lines = "".join(f'{{"seed":{3 * n}}}\n' for n in range(count))
    _, store = stored(file(tmp_path, "m.jsonl", lines), classes=())
    assert len(list(store.scan("jobs/job/manifest/"))) == 3
    assert [item.seed for item in items(store, count, chunk_items=192 * 64)] == list(range(0, 3 * count, 3))


# What is refused


@pytest.mark.parametrize(
    ("text", "line", "field", "code"),
    [
        ('{"seed":1,"class":"mugs"}', 1, "class", "unknown_class"),
        ('{"seed":1,"class":["cups"]}', 1, "class", "unknown_class"),
        ('\n{"seed":1}', 2, "class", "missing_field"),
        ('{"class":"cups"}', 1, "seed", "missing_field"),
        ('{"seed":-1,"class":"cups"}', 1, "seed", "bad_seed"),
        ('{"seed":true,"class":"cups"}', 1, "seed", "bad_seed"),
        ('{"seed":1.5,"class":"cups"}', 1, "seed", "bad_seed"),
        ('{"seed":"1","class":"cups"}', 1, "seed", "bad_seed"),
        (f'{{"seed":{SEED_MAX + 1},"class":"cups"}}', 1, "seed", "bad_seed"),
        ('{"seed":1,"class":"cups","size":64}', 1, "size", "unknown_field"),
        ('{"seed":1,"class":"cups","format":"gif"}', 1, "format", "unknown_format"),
        ('{"seed":1,"class":"cups","format":["png"]}', 1, "format", "unknown_format"),
        ('{"seed":1,"class":"cups","id":""}', 1, "id", "bad_id"),
        ('{"seed":1,"class":"cups","id":5}', 1, "id", "bad_id"),
        (f'{{"seed":1,"class":"cups","id":"{"x" * 129}"}}', 1, "id", "bad_id"),
        ('{"seed":1,"class":"cups","id":"a"}\n{"seed":2,"class":"cups","id":"a"}', 2, "id", "duplicate_id"),
        ("seed,class", 1, "", "bad_json"),
        ("[1]", 1, "", "bad_json"),
        ("[" * 60_000, 1, "", "bad_json"),
        (b'{"seed":1,"class":"\xff"}', 1, "", "bad_encoding"),
        (f'{{"seed":1,"class":"{"x" * LINE_BYTES_MAX}"}}', 1, "", "too_long"),
    ],
)  # fmt: skip
def test_each_way_for_a_line_to_be_wrong_has_its_code(
    tmp_path: Path, text: str | bytes, line: int, field: str, code: str
) -> None:
    refused = refusal(file(tmp_path, "m.jsonl", text))
    (problem,) = refused.problems
    assert (problem.line, problem.field, problem.code, refused.problem_count) == (line, field, code, 1)
    assert len(problem.text) < 250


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("seed,class\n1,cups,9\n", [(2, "", "bad_csv")]),
        ('seed,class\n1,"cups\n2,cups\n', [(2, "", "bad_csv")]),
        ("seed,class\n1_0,cups\n", [(2, "seed", "bad_seed")]),
        (f"seed,class\n{'9' * 5000},cups\n", [(2, "seed", "bad_seed")]),
        ("seed,class\n,mugs\n", [(2, "seed", "missing_field"), (2, "class", "unknown_class")]),
        ("class,size\ncups,1\n", [(1, "size", "unknown_field"), (1, "seed", "missing_field")]),
        ("seed,seed,class\n", [(1, "seed", "repeated_field")]),
        ("1,cups\n", [(1, "1", "unknown_field"), (1, "cups", "unknown_field"), (1, "seed", "missing_field")]),
    ],
)
def test_a_csv_is_refused_by_line_and_its_header_is_line_1(
    tmp_path: Path, text: str, found: list[tuple[int, str, str]]
) -> None:
    problems = refusal(file(tmp_path, "m.csv", text)).problems
    assert [(problem.line, problem.field, problem.code) for problem in problems] == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("seeds: [1]\nclasses:\n  - cups\n  - mugs\n", [(4, "class", "unknown_class")]),
        ("seeds: [1, x, 5-2]\n", [(1, "seed", "bad_seed"), (1, "seed", "bad_seed")]),
        ("seeds: [1]\nformats: [gif]\n", [(2, "format", "unknown_format")]),
        ("classes: [cups]\n", [(1, "seeds", "missing_field")]),
        ("seeds: [1]\nsizes: [64]\n", [(2, "sizes", "unknown_field")]),
        ("seeds: [1]\nseeds: [2]\n", [(2, "seeds", "repeated_field")]),
        ("seeds: 5\n", [(1, "seeds", "bad_list")]),
        ("seeds:\n  - [1]\n", [(2, "seeds", "bad_list")]),
        ("seeds: [1\n", [(2, "", "bad_yaml")]),
        ("- 1\n", [(1, "", "bad_yaml")]),
        ("seeds: [0-9999999]\n", [(1, "", "too_many_lines")]),
    ],
)
def test_a_matrix_is_refused_by_line_even_with_skip_bad(
    tmp_path: Path, text: str, found: list[tuple[int, str, str]]
) -> None:
    problems = refusal(file(tmp_path, "m.yaml", text), skip_bad=True).problems
    assert [(problem.line, problem.field, problem.code) for problem in problems] == found


def test_a_class_is_unknown_to_a_model_without_classes(tmp_path: Path) -> None:
    (problem,) = refusal(file(tmp_path, "m.jsonl", '{"seed":1,"class":"cups"}'), classes=()).problems
    assert (problem.code, "leave it out" in problem.text) == ("unknown_class", True)


def test_a_manifest_of_too_many_lines_is_refused_even_when_bad_lines_may_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_read, "COUNT_MAX", 3)
    path = file(tmp_path, "m.jsonl", '{"seed":1,"class":"cups"}\n' * 5)
    refused = refusal(path, skip_bad=True)
    assert [(problem.line, problem.code) for problem in refused.problems] == [(4, "too_many_lines")]


@pytest.mark.parametrize(
    ("name", "text"),
    [("m.jsonl", ""), ("m.csv", "seed,class\n"), ("m.txt", "1"), ("m.yaml", b"\xff"), ("m.yml", "x" * 300_000)],
)
def test_a_file_that_is_no_manifest_is_refused_whole(tmp_path: Path, name: str, text: str | bytes) -> None:
    with pytest.raises(InvalidSpec, match=name):
        stored(file(tmp_path, name, text))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="is it there"):
        stored(tmp_path / "none.csv")


def test_of_20_000_lines_exactly_the_3_wrong_ones_are_told(tmp_path: Path) -> None:
    lines = [f'{{"seed":{n},"class":"cups","id":"p{n}"}}\n' for n in range(1, 20_001)]
    lines[0], lines[9_999], lines[-1] = '{"seed":-1,"class":"cups"}\n', '{"seed":5,"class":"cat"}\n', "{\n"
    refused = refusal(file(tmp_path, "m.jsonl", "".join(lines)))
    found = [(problem.line, problem.code) for problem in refused.problems]
    assert found == [(1, "bad_seed"), (10_000, "unknown_class"), (20_000, "bad_json")]
    assert "3 of 20,000 lines" in str(refused)
    assert "--skip-bad" in str(refused)


def test_more_errors_than_are_listed_are_counted(tmp_path: Path) -> None:
    refused = refusal(file(tmp_path, "m.jsonl", "{}\n" * 500))
    assert (len(refused.problems), refused.problem_count) == (PROBLEMS_MAX, 1_000)
    assert "1,000" in str(refused)


def test_wrong_lines_that_are_left_out_are_kept_with_their_reasons(tmp_path: Path) -> None:
    text = "seed,class,id\n1,cups,a\n2,mugs,b\n3,plates,b\n4,cups,a\n"
    manifest, store = stored(file(tmp_path, "m.csv", text), skip_bad=True)
    assert [(item.index, item.seed) for item in items(store, 2)] == [(0, 1), (1, 3)]
    left_out = [json.loads(line) for line in store.get(layout.refused_key("job")).splitlines()]
    assert [(line["line"], line["code"]) for line in left_out] == [(3, "unknown_class"), (5, "duplicate_id")]
    assert (manifest.wrong_count, manifest.line_count) == (2, 4)


def test_a_manifest_of_wrong_lines_only_is_refused_even_when_they_may_be_left_out(tmp_path: Path) -> None:
    assert refusal(file(tmp_path, "m.jsonl", "{}\n"), skip_bad=True).problem_count == 2


# How it is stored


def test_a_removed_manifest_leaves_nothing(tmp_path: Path) -> None:
    manifest, store = stored(file(tmp_path, "m.csv", "seed,class\n1,cups\n2,mugs\n"), skip_bad=True)
    manifest.remove("job", store)
    assert list(store.scan("")) == []


def test_a_block_that_is_gone_or_damaged_is_no_chunk(tmp_path: Path) -> None:
    _, store = stored(file(tmp_path, "m.jsonl", '{"seed":1,"class":"cups"}\n' * 70))
    key = layout.manifest_key("job", 0)
    store.put(key, store.get(key)[:-9])
    with pytest.raises(InvalidSpec, match="damaged"):
        items(store, 70)
    with pytest.raises(InvalidSpec, match="does not have items"):
        items(stored(file(tmp_path, "m.jsonl", '{"seed":1,"class":"cups"}\n'))[1], 70)
    store.delete([key])
    with pytest.raises(NotFound):
        items(store, 70)


@given(st.lists(st.text(max_size=3), max_size=400))
def test_an_id_is_new_once(texts: list[str]) -> None:
    seen, known = SeenIds(), set[str]()
    for text in texts:
        assert seen.add(text) is (text not in known)
        known.add(text)


def test_ids_are_remembered_while_their_table_grows() -> None:
    seen = SeenIds()
    assert all(seen.add(str(number)) for number in range(5_000))
    assert not any(seen.add(str(number)) for number in range(5_000))
