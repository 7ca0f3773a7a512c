"""Redis loses everything in the middle of a job: `aigc recover` finishes it, and no finished picture is written again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from receiver import Receiver, receiving
from stack import PUBLISH, Stack, running

pytestmark = pytest.mark.slow

COUNT = 6_000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    fast = {"AIGC_LEASE_SECONDS": "3", "AIGC_REAP_INTERVAL_SECONDS": "0.5"}
    fast |= {"AIGC_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
    with running(tmp_path_factory.mktemp("recover"), **fast) as made:
        made.in_process(PUBLISH)
        yield made


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def job_folder(stack: Stack, job_id: str) -> Path:
    return stack.folder / ".aigc" / "s3" / "aigc" / "jobs" / job_id


def written(folder: Path, *, parts: set[str]) -> dict[str, int]:
    """When each picture of these parts was written, in nanoseconds."""
    lines = [json.loads(line) for part in parts for line in (folder / "parts" / part).read_text().splitlines()]
    return {line["key"]: (folder.parents[1] / line["key"]).stat().st_mtime_ns for line in lines}


def test_a_lost_ledger_is_rebuilt_and_the_job_ends_with_every_picture_written_once(stack: Stack, receiver: Receiver) -> None:
    # given a job in its middle, and a Redis that has lost everything
    order = ["generate", "--model", "dcgan64", "--count", str(COUNT), "--seed", "3", "--webhook", receiver.url]
    job_id = stack.json(*order)["id"]
    while stack.json("job", job_id)["chunks_done"] < 3:
        pass
    with redis.Redis.from_url(stack.settings()["AIGC_REDIS_URL"]) as client:
        client.flushall()
    assert stack.run("job", job_id, check=False).returncode == 2
    folder = job_folder(stack, job_id)
    # when
    (planned,) = stack.json("recover", "--dry-run")
    before = written(folder, parts={path.name for path in (folder / "parts").iterdir()})
    (recovered,) = stack.json("recover")
    (again,) = stack.json("recover")
    # then the command says what it found, and does it once
    assert planned["result"] == recovered["result"] == "recovered"
    assert recovered["chunks_found"] >= planned["chunks_found"] >= 3
    assert recovered["chunks_found"] + recovered["chunks_missing"] == -(-COUNT // 512)
    assert again["result"] == "known"
    # and the job ends whole, with what was there untouched
    stack.run("watch", job_id)
    assert stack.json("job", job_id)["counts"]["completed"] == COUNT
    assert len(list((folder / "images").rglob("*.png"))) == COUNT
    after = written(folder, parts={path.name for path in (folder / "parts").iterdir()})
    assert len(after) == COUNT
    assert before == {key: after[key] for key in before}
    report = stack.json("verify", job_id)
    assert (report["problem_count"], report["items"]) == (0, COUNT)
    # and its end is told
    assert receiver.arrived.acquire(timeout=30)
    assert receiver.received[-1].is_genuine
    assert receiver.received[-1].event["data"]["job"] == job_id
    while stack.json("webhooks", job_id)[0]["state"] != "delivered":
        pass
    stack.run("webhooks", job_id, "--replay")
    assert receiver.arrived.acquire(timeout=30)
    assert receiver.received[-1].webhook_id == receiver.received[-2].webhook_id


def test_verify_ends_with_1_and_names_what_is_gone(stack: Stack) -> None:
    job = stack.json("generate", "--model", "dcgan64", "--count", "64", "--packing", "tar", "--wait")
    assert stack.json("verify", job["id"], "--quick")["problem_count"] == 0
    shard = f"jobs/{job['id']}/shards/000000000.tar"
    stack.in_process(f"from workers.bootstrap import Runtime\nRuntime.from_env().store.delete(['{shard}'])")
    done = stack.run("verify", job["id"], check=False)
    assert done.returncode == 1
    assert "object_missing" in done.stdout


def test_a_webhook_without_a_secret_is_refused(stack: Stack) -> None:
    without = Stack(stack.folder)
    without.environment |= stack.settings() | {"AIGC_WEBHOOK_SECRET": ""}
    lines = (stack.folder / ".aigc" / "stack.env").read_text().splitlines()
    without.environment["AIGC_HOME"] = str(stack.folder / "elsewhere")
    assert any(line.startswith("AIGC_WEBHOOK_SECRET=") for line in lines)
    done = without.run("generate", "--model", "dcgan64", "--count", "5", "--webhook", "https://example.com/", check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "AIGC_WEBHOOK_SECRET" in done.stderr
