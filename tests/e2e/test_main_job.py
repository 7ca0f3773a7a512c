"""The main job, thin and whole: ingest → train on a worker → publish → generate; and what is refused before any work."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from stack import Stack, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with the digits, and a model trained on them for a few steps."""
    with running(tmp_path_factory.mktemp("main")) as made:
        made.run("dataset", "ingest", "digits", "--name", "digits", "--size", "32", "--channels", "1")
        made.run("dataset", "ingest", "digits", "--name", "odd", "--size", "48", "--channels", "1")
        made.run("train", "--dataset", "digits", "--model", "digits", "--preset", "quick-32", "--steps", "5", "--wait")
        yield made


def opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def test_a_trained_model_generates_the_ordered_classes_in_the_ordered_format(stack: Stack) -> None:
    job = stack.json("generate", "--model", "digits", "--count", "70", "--classes", "3,7", "--format", "webp", "--wait")
    folder = stack.folder / ".aigc" / "s3" / "aigc" / "jobs" / job["id"]
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [line["class"] for line in lines[:3]] == ["3", "7", "3"]
    assert len(lines) == 70
    assert opened(stack.folder / ".aigc" / "s3" / "aigc" / lines[0]["key"]).format == "WEBP"
    assert opened(folder / "contact-sheet.png").width > 500


def test_a_manifest_is_made_line_by_line_and_its_results_can_be_read(stack: Stack, tmp_path: Path) -> None:
    # given a manifest with one wrong line, and what it would come to
    path = tmp_path / "order.csv"
    path.write_text("seed,class,id,format\n" + "".join(f"{n},{n % 10},ad-{n},webp\n" for n in range(70)) + "7,cat,ad-x,\n")
    order = ["generate", "--model", "digits", "--manifest", str(path), "--skip-bad"]
    before = stack.json("jobs")
    dry = stack.json(*order, "--dry-run")
    assert (dry["image_count"], dry["chunk_count"], dry["cost"]) == (70, 1, None)
    assert [(problem["line"], problem["code"]) for problem in dry["problems"]] == [(72, "unknown_class")]
    assert stack.json("jobs") == before
    # when it is ordered
    job = stack.json(*order, "--wait", "--idempotency-key", "the-manifest")
    # then its pictures are there, in its formats and under its ids
    lines = [json.loads(line) for line in stack.run("results", job["id"]).stdout.splitlines()]
    assert [(line["index"], line["seed"], line["class"], line["id"]) for line in lines] == [
        (n, n, str(n % 10), f"ad-{n}") for n in range(70)
    ]
    assert opened(stack.folder / ".aigc" / "s3" / "aigc" / lines[0]["key"]).format == "WEBP"
    assert stack.run("results", job["id"], "--errors").stdout == ""
    assert json.loads(stack.run("results", job["id"], "--summary").stdout)["counts"]["completed"] == 70
    refused = (stack.folder / ".aigc" / "s3" / "aigc" / "jobs" / job["id"] / "refused.jsonl").read_text()
    assert [json.loads(line)["line"] for line in refused.splitlines()] == [72]
    # and the same order again is the same job, and measures what the next one takes
    assert stack.json(*order, "--idempotency-key", "the-manifest")["id"] == job["id"]
    again = stack.json("generate", "--model", "digits", "--count", "700", "--dry-run")
    assert again["seconds"] > 0
    assert again["measured_jobs"] >= 1


def test_a_manifest_with_wrong_lines_is_refused_with_a_line_for_each_and_nothing_is_enqueued(
    stack: Stack, tmp_path: Path
) -> None:
    path = tmp_path / "order.jsonl"
    path.write_text('{"seed":1,"class":"3"}\n{"seed":-1,"class":"3"}\n{"seed":1,"class":"cat"}\n')
    before = stack.json("jobs")
    done = stack.run("generate", "--model", "digits", "--manifest", str(path), check=False)
    assert (done.returncode, done.stdout) == (2, "")
    first, second, last = done.stderr.splitlines()
    assert first.startswith(f"{path}:2: seed: bad_seed: ")
    assert second.startswith(f"{path}:3: class: unknown_class: ")
    assert last.startswith("error: ")
    assert "2 of 3 lines" in last
    as_json = stack.run("generate", "--model", "digits", "--manifest", str(path), "--json", check=False)
    assert [problem["line"] for problem in json.loads(as_json.stdout)["problems"]] == [2, 3]
    assert stack.json("jobs") == before
    assert not [path for path in (stack.folder / ".aigc" / "s3").rglob("manifest") if path.parent.name not in known(before)]


def known(jobs: list[dict[str, object]]) -> set[object]:
    """Their ids."""
    return {job["id"] for job in jobs}


def test_the_card_of_a_version_says_where_it_comes_from(stack: Stack) -> None:
    (card,) = stack.json("models")
    (dataset,) = [entry for entry in stack.json("datasets") if entry["name"] == "digits"]
    assert card["dataset_fingerprint"] == dataset["fingerprint"]
    assert card["figures"]["export_saved_model_levels"] <= 1
    assert card["figures"]["export_onnx_levels"] <= 1
    assert card["spec"]["preset"] == "quick-32"


def test_a_cancelled_training_ends_and_publishes_nothing(stack: Stack) -> None:
    job_id = stack.json("train", "--dataset", "digits", "--model", "other")["id"]
    while not stack.json("job", job_id)["progress"]:
        pass
    stack.run("cancel", job_id)
    assert stack.run("watch", job_id, check=False).returncode == 1
    assert stack.json("job", job_id)["state"] == "cancelled"
    assert "other" not in {card["name"] for card in stack.json("models")}


REFUSED = [
    (["generate", "--model", "unknown", "--count", "5"], "there is digits"),
    (["generate", "--model", "digits@9", "--count", "5"], "it has 1"),
    (["generate", "--model", "digits", "--count", "0"], "count 0"),
    (["generate", "--model", "digits", "--count", "-3"], "count -3"),
    (["generate", "--model", "digits", "--count", "1000000000"], "10,000,000"),
    (["generate", "--model", "digits", "--count", "5", "--classes", "cat"], "'cat'"),
    (["generate", "--model", "digits", "--count", "5", "--format", "gif"], "png, jpeg, webp"),
    (["generate", "--model", "digits", "--count", "5", "--packing", "zip"], "objects, tar"),
    (["generate", "--model", "digits"], "--count or --manifest"),
    (["generate", "--model", "digits", "--manifest", "{folder}/none.csv"], "is it there"),
    (["generate", "--model", "digits", "--manifest", "x.csv", "--seed", "1"], "--seed and --classes"),
    (["generate", "--model", "digits", "--count", "5", "--skip-bad"], "only a manifest"),
    (["results", "unknown"], "aigc jobs"),
    (["train", "--dataset", "none", "--model", "m"], "there is digits, odd"),
    (["train", "--dataset", "odd", "--model", "m"], "48"),
    (["train", "--dataset", "digits", "--model", "m", "--preset", "quik-32"], "quick-32"),
    (["dataset", "ingest", "{folder}/empty", "--name", "e", "--size", "32"], "no picture files"),
    (["dataset", "ingest", "{folder}/broken", "--name", "b", "--size", "32"], "a.jpg: not a picture"),
    (["dataset", "ingest", "{folder}/nowhere", "--name", "b", "--size", "32"], "no such folder"),
    (["job", "unknown"], "aigc jobs"),
]


@pytest.mark.parametrize(
    ("arguments", "words"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_what_cannot_work_is_refused_in_one_line_and_nothing_is_enqueued(
    stack: Stack, tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"no picture")
    before = stack.json("jobs")
    done = stack.run(*(argument.format(folder=tmp_path) for argument in arguments), check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
    assert [job["id"] for job in stack.json("jobs")] == [job["id"] for job in before]


@pytest.mark.parametrize(
    ("setting", "value"), [("AIGC_REDIS_URL", "redis://127.0.0.1:1/0"), ("AIGC_S3_ENDPOINT", "http://127.0.0.1:1")]
)
def test_an_unreachable_server_is_one_clear_line(stack: Stack, setting: str, value: str) -> None:
    away = Stack(stack.folder, **{setting: value})
    done = away.run("generate", "--model", "digits", "--count", "5", check=False)
    assert done.returncode == 2
    assert "127.0.0.1:1" in done.stderr
    assert len(done.stderr.splitlines()) == 1
