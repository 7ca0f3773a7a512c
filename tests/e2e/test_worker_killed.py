"""kill -9 in the middle of a job: nothing lost, nothing doubled, the same bytes."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from stack import PUBLISH, Stack, running

pytestmark = pytest.mark.slow

COUNT = 5_000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two generation workers with leases that run out soon."""
    folder = tmp_path_factory.mktemp("killed")
    fast = {"AIGC_LEASE_SECONDS": "3", "AIGC_REAP_INTERVAL_SECONDS": "0.5"}
    with running(folder, generation_workers=2, **fast) as made:
        made.in_process(PUBLISH)
        yield made


def order(stack: Stack, *options: str) -> str:
    return str(stack.json("generate", "--model", "dcgan64", "--count", str(COUNT), "--seed", "11", *options)["id"])


def results(stack: Stack, job_id: str) -> list[dict[str, Any]]:
    path = stack.folder / ".aigc" / "s3" / "aigc" / "jobs" / job_id / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def stored(stack: Stack, job_id: str) -> set[str]:
    bucket = stack.folder / ".aigc" / "s3" / "aigc"
    return {path.relative_to(bucket).as_posix() for path in (bucket / "jobs" / job_id / "images").rglob("*.png")}


def wait_for_chunks(stack: Stack, job_id: str, count: int) -> None:
    """Return once that many chunks are committed: the middle of the job."""
    while stack.json("job", job_id)["chunks_done"] < count:
        pass


def wait_for_end(stack: Stack, job_id: str) -> dict[str, Any]:
    stack.run("watch", job_id)
    return dict(stack.json("job", job_id))


def a_worker_of(stack: Stack, job_id: str) -> str:
    """The name of a worker that holds a lease of the job just now."""
    names = {stack.pid(name): name for name in ("generation-1", "generation-2")}
    with redis.Redis.from_url(stack.settings()["AIGC_REDIS_URL"], decode_responses=True) as client:
        while True:
            for lease in client.hvals(f"aigc:job:{job_id}:leases"):
                return names[int(lease.rsplit("-", 1)[-1])]


def test_a_killed_worker_costs_nothing_but_time(stack: Stack) -> None:
    # given an undisturbed run, and one whose worker is killed in the middle
    undisturbed = order(stack)
    wait_for_end(stack, undisturbed)
    disturbed = order(stack)
    wait_for_chunks(stack, disturbed, 2)
    os.kill(stack.pid(a_worker_of(stack, disturbed)), signal.SIGKILL)
    # when the job ends by itself
    job = wait_for_end(stack, disturbed)
    # then every picture is there once, is listed once, and has the same bytes
    assert job["state"] == "completed"
    assert job["counts"]["completed"] == COUNT
    assert job["attempts_lost"] >= 1
    lines = results(stack, disturbed)
    assert [line["index"] for line in lines] == list(range(COUNT))
    assert stored(stack, disturbed) == {line["key"] for line in lines}
    assert len(stored(stack, disturbed)) == COUNT
    assert [line["sha256"] for line in lines] == [line["sha256"] for line in results(stack, undisturbed)]
    stack.run("up", "--generation-workers", "2")  # what was killed starts again


def test_a_job_waits_for_the_model_server_and_says_so(stack: Stack) -> None:
    # given a job while the model server is away
    os.kill(stack.pid("serving"), signal.SIGKILL)
    job_id = order(stack)
    while not (job := stack.json("job", job_id))["waiting_for"]:
        pass
    assert "model server" in stack.run("job", job_id).stdout
    # when it is back
    stack.run("up", "--generation-workers", "2")
    # then the job completes and has spent no attempt
    job = wait_for_end(stack, job_id)
    assert (job["state"], job["attempts_error"], job["attempts_lost"]) == ("completed", 0, 0)


def test_a_cancelled_job_keeps_what_it_made_and_its_counts_add_up(stack: Stack) -> None:
    job_id = str(stack.json("generate", "--model", "dcgan64", "--count", "200000")["id"])
    wait_for_chunks(stack, job_id, 1)
    stack.run("cancel", job_id)
    assert stack.run("watch", job_id, check=False).returncode == 1
    job = stack.json("job", job_id)
    assert job["state"] == "cancelled"
    lines = results(stack, job_id)
    assert len(lines) == job["counts"]["completed"] > 0
    summary = json.loads((stack.folder / ".aigc" / "s3" / "aigc" / "jobs" / job_id / "summary.json").read_text())
    assert summary["counts"]["completed"] + summary["counts"]["not_made"] == 200_000


def test_a_stack_that_was_stopped_goes_on_where_it_stopped(stack: Stack) -> None:
    job_id = order(stack)
    wait_for_chunks(stack, job_id, 1)
    stack.run("down")
    stack.run("up", "--generation-workers", "2")
    job = wait_for_end(stack, job_id)
    assert (job["state"], len(stored(stack, job_id))) == ("completed", COUNT)


def test_the_stack_keeps_its_secrets_to_itself(stack: Stack) -> None:
    secrets = [
        stack.settings()["AIGC_S3_SECRET_KEY"],
        json.loads((stack.folder / ".aigc/stack.json").read_text())["redis_password"],
    ]
    logs = "".join(path.read_text() for path in (stack.folder / ".aigc" / "logs").glob("*.log"))
    lines = "".join(path.read_text(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
    assert not [secret for secret in secrets if secret in logs or secret in lines]
    assert (stack.folder / ".aigc").stat().st_mode & 0o077 == 0
