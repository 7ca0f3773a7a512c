"""`aigc quickstart`, alone and beside a stack that is up: what it makes, what it stops, and how it ends."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from stack import Stack, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("quickstart")) as made:
        yield made


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_a_cancelled_training_ends_quickstart_with_1_and_the_stack_stays_up(stack: Stack, options: list[str]) -> None:
    # given a quickstart whose training runs, and what a worker left that was killed once
    (stack.folder / ".aigc" / "run" / "metrics-4194305.json").write_text('{"url": "http://127.0.0.1:1/metrics"}')
    jobs_before = len(stack.json("jobs"))
    command = [sys.executable, "-m", "workers.cli", "quickstart", *options]
    with subprocess.Popen(
        command, env=stack.environment, cwd=stack.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        while len(jobs := stack.json("jobs")) == jobs_before:
            assert child.poll() is None
        # when it is cancelled
        stack.run("cancel", jobs[0]["id"])
        output, errors = child.communicate()
    # then
    assert child.returncode == 1, errors
    said = json.loads(output)["state"] if options else output
    assert "cancelled" in said
    stack.run("status")
    assert not (stack.folder / ".aigc" / "run" / "metrics-4194305.json").exists()


def test_quickstart_on_a_fresh_machine_makes_its_pictures_and_stops_what_it_started(tmp_path: Path) -> None:
    alone = Stack(tmp_path)
    made = alone.json("quickstart", "--minutes", "0.05")
    assert [Path(path).name for path in made["papers"]] == [
        "contact-sheet.png", "metrics.txt", "results.jsonl", "summary.json",
    ]  # fmt: skip
    assert len((alone.folder / ".aigc" / "quickstart" / "results.jsonl").read_text().splitlines()) == 1_000
    assert "aigc_images_total" in (alone.folder / ".aigc" / "quickstart" / "metrics.txt").read_text()
    assert alone.run("down").stdout == "nothing was running\n"


def test_what_quickstart_started_is_stopped_again_when_it_is_refused(tmp_path: Path) -> None:
    alone = Stack(tmp_path)
    done = alone.run("quickstart", "--minutes", "0", check=False)
    assert done.returncode == 2
    assert "minutes" in done.stderr
    assert alone.run("status", check=False).returncode == 1
    assert alone.run("down").stdout == "nothing was running\n"
