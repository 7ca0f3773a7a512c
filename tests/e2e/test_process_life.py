"""Real worker processes told to end, drained, and given work again. Leases last a minute: none may have to run out."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from stack import PUBLISH, Stack, running

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

STOP_SECONDS = 3
WORKERS = ("generation-1", "generation-2")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {"AIGC_REAP_INTERVAL_SECONDS": "0.5", "AIGC_STOP_SECONDS": str(STOP_SECONDS)}
    with running(tmp_path_factory.mktemp("life"), generation_workers=2, **settings) as made:
        made.in_process(PUBLISH)
        yield made


def order(stack: Stack, count: int, *options: str) -> str:
    return str(stack.json("generate", "--model", "dcgan64", "--count", str(count), *options)["id"])


def worker_with_a_lease(stack: Stack, job_id: str) -> str:
    names = {stack.pid(name): name for name in WORKERS}
    with redis.Redis.from_url(stack.settings()["AIGC_REDIS_URL"], decode_responses=True) as client:
        while True:
            for lease in client.hvals(f"aigc:job:{job_id}:leases"):
                return names[int(lease.rsplit("-", 1)[-1])]


def told_to_end(stack: Stack, name: str, *, signal_number: int = signal.SIGTERM) -> float:
    """Seconds until the process has ended."""
    worker = psutil.Process(stack.pid(name))
    started = time.monotonic()
    os.kill(worker.pid, signal_number)
    worker.wait(60)
    return time.monotonic() - started


def ended(stack: Stack, job_id: str) -> dict[str, Any]:
    stack.run("watch", job_id)
    return dict(stack.json("job", job_id))


def tickets_taken(stack: Stack, name: str) -> float:
    (url,) = (row["metrics"] for row in stack.json("status") if row["name"] == name)
    with urllib.request.urlopen(url) as answer:
        found = re.findall(r"^aigc_task_started_total\{.*\} (\S+)", answer.read().decode(), re.MULTILINE)
    return sum(map(float, found))


def wait_for_log(stack: Stack, name: str, text: str) -> None:
    path: Path = stack.folder / ".aigc" / "logs" / f"{name}.log"
    while f'"event": "{text}"' not in path.read_text():
        pass


def test_a_busy_worker_that_is_told_to_end_finishes_its_chunk_and_loses_nothing(stack: Stack) -> None:
    job_id = order(stack, 5_000)
    name = worker_with_a_lease(stack, job_id)
    assert told_to_end(stack, name) < STOP_SECONDS + 5
    job = ended(stack, job_id)
    assert (job["counts"]["completed"], job["attempts_lost"], job["attempts_error"]) == (5_000, 0, 0)
    assert stack.json("verify", job_id)["problem_count"] == 0
    stack.run("up", "--generation-workers", "2")


def test_work_that_does_not_end_in_time_is_handed_back_and_made_once_more(stack: Stack) -> None:
    # given workers that wait for a model server that is frozen
    serving = psutil.Process(stack.pid("serving"))
    serving.suspend()
    job_id = order(stack, 2_000)
    worker_with_a_lease(stack, job_id)
    # when all of them are told to end
    for name in WORKERS:
        assert told_to_end(stack, name) < STOP_SECONDS + 5
    # then no lease is left behind, and the next workers finish the job without a lost attempt
    assert stack.json("job", job_id)["chunks_running"] == 0
    serving.resume()
    stack.run("up", "--generation-workers", "2")
    job = ended(stack, job_id)
    assert (job["counts"]["completed"], job["attempts_lost"]) == (2_000, 0)


def test_a_drained_worker_takes_no_ticket_until_the_drain_is_undone(stack: Stack) -> None:
    first, second = (f"{socket.gethostname()}-{stack.pid(name)}" for name in WORKERS)
    stack.run("drain", first, "--why", "a test")
    wait_for_log(stack, WORKERS[0], "draining")
    before = tickets_taken(stack, WORKERS[0])
    assert ended(stack, order(stack, 3_000))["counts"]["completed"] == 3_000
    assert tickets_taken(stack, WORKERS[0]) == before
    # when it is the only one that may work
    stack.run("drain", second)
    wait_for_log(stack, WORKERS[1], "draining")
    stack.run("drain", first, "--undo")
    wait_for_log(stack, WORKERS[0], "drain undone")
    # then it does
    assert ended(stack, order(stack, 1_000))["counts"]["completed"] == 1_000
    assert tickets_taken(stack, WORKERS[0]) > before
    stack.run("drain", second, "--undo")
    wait_for_log(stack, WORKERS[1], "drain undone")


DEAF = """
import sys
from celery.signals import worker_ready
from workers.cli import main

@worker_ready.connect(weak=False)
def lose_the_queues(sender, **_):
    for queue in ("generation", "maintenance"):
        sender.call_soon(sender.cancel_task_queue, queue)

sys.argv = ["aigc", "worker", "generation"]
main()
"""


def test_a_worker_that_hears_of_no_ticket_ends_with_a_code_of_its_own(stack: Stack) -> None:
    # given work that only a worker could do whose consumers are gone
    names = [f"{socket.gethostname()}-{stack.pid(name)}" for name in WORKERS]
    for place, name in enumerate(names):
        stack.run("drain", name)
        while stack.folder.joinpath(f".aigc/logs/{WORKERS[place]}.log").read_text().count('"event": "draining"') < 2:
            pass
    environment = {**stack.environment, **stack.settings(), "AIGC_STUCK_SECONDS": "3", "PYTHONPATH": str(ROOT)}
    job_id = order(stack, 500)
    # when it has waited long enough
    done = subprocess.run([sys.executable, "-c", DEAF], env=environment, capture_output=True, text=True, timeout=120)
    # then it says so and ends, and the job is there for the others
    assert done.returncode == 75, done.stderr
    assert "no ticket taken for" in done.stderr
    for name in names:
        stack.run("drain", name, "--undo")
    assert ended(stack, job_id)["counts"]["completed"] == 500


def test_a_worker_opens_no_channel_to_the_model_server_before_its_first_chunk(stack: Stack) -> None:
    code = "import sys, workers.generation, workers.maintenance, workers.webhooks; print('grpc' in sys.modules)"
    assert stack.in_process(code) == "False\n"
