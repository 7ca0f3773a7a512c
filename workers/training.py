"""The training worker: a ticket in, one run in a child process, whose crash is an error of the job and of nothing else.

The child is `python -m workers.training_child`. It gets the lease's facts as JSON on standard input and answers with JSON
lines on standard output: {"progress": …}, at the end {"published": …} or {"error": …, "class": …}. This process renews the
lease meanwhile, passes progress on, and asks the child to stop (SIGTERM: checkpoint, then exit) when the job is cancelled.
"""

import json
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import IO, Any, cast

from celery.signals import worker_shutting_down

from aigc_core.errors import AigcError, Cancelled, InvalidSpec, NotFound, Transient, Unavailable
from aigc_core.jobs.execute import Heartbeat
from aigc_core.jobs.records import FINALISE, ChunkReport, Lease
from aigc_core.jobs.specs import TrainingSpec
from aigc_core.jobs.states import JobState
from workers import metrics
from workers.celery_app import app
from workers.lifecycle import log, runtime, work_on
from workers.queues import TRAINING, WORK_TRAINING

#: How long a child may take from the request to stop until it has written its checkpoint, in seconds.
STOP_SECONDS = 60.0

ERRORS: dict[str, type[AigcError]] = {
    error.__name__: error for error in (InvalidSpec, NotFound, Transient, Unavailable, Cancelled)
}


#: Set when the worker was told to end: the run leaves a checkpoint and the job waits for the next worker.
_ending = threading.Event()


@worker_shutting_down.connect
def _end(**_: object) -> None:
    _ending.set()


@app.task(name=WORK_TRAINING)
def work(job_id: str) -> None:
    """Train the job's model if nobody else does."""
    outcome = work_on(job_id, run, queue=TRAINING, task="train")
    if outcome.result != "nothing" and outcome.chunk != FINALISE:
        metrics.TRAINING_SECONDS.labels(outcome.result).observe(outcome.seconds)


def run(lease: Lease, heartbeat: Heartbeat) -> ChunkReport:
    """What a lease of a training job asks for: the run, or, after it, the job's final state."""
    if lease.chunk == FINALISE:
        job = runtime().ledger.job(lease.job_id)
        if job.counts.completed:
            return ChunkReport(final_state=JobState.COMPLETED)
        return ChunkReport(final_state=JobState.CANCELLED if job.cancel_requested else JobState.FAILED)
    return train_in_child(lease, heartbeat, [sys.executable, "-m", "workers.training_child"])


def train_in_child(lease: Lease, heartbeat: Heartbeat, command: list[str]) -> ChunkReport:
    """Run the child to its end; raises what the child says, or `Transient` when it died without a word."""
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    stdin, stdout, stderr = cast("IO[str]", child.stdin), cast("IO[str]", child.stdout), cast("IO[str]", child.stderr)
    last_lines: deque[str] = deque(maxlen=20)
    reader = threading.Thread(target=_pass_on, args=(stderr, last_lines), daemon=True)
    watcher = threading.Thread(target=_stop_when_told, args=(child, heartbeat), daemon=True)
    reader.start()
    watcher.start()
    with suppress(BrokenPipeError):  # it is dead already then; its exit code says why
        stdin.write(json.dumps({"job_id": lease.job_id, "spec": lease.spec_json}) + "\n")
        stdin.close()
    answer: dict[str, Any] = {}
    for line in stdout:
        answer = json.loads(line)
        if "progress" in answer:
            runtime().ledger.progress(lease, answer["progress"])
            metrics.observe_training(TrainingSpec.from_json(lease.spec_json).model, answer["progress"])
    code = child.wait()
    reader.join()
    heartbeat.check()
    if _ending.is_set() and "published" not in answer:
        raise Unavailable("a training worker: the one that ran this job was shut down; it goes on from its checkpoint")
    return _judged(lease, answer, code, list(last_lines))


def _judged(lease: Lease, answer: dict[str, Any], code: int, last_lines: list[str]) -> ChunkReport:
    model = TrainingSpec.from_json(lease.spec_json).model
    if "published" in answer:
        metrics.EXPORTS.labels(model, "ok").inc()
        runtime().ledger.emit("model.published", lease.job_id, answer["published"])
        return ChunkReport(completed=1)
    metrics.EXPORTS.labels(model, "failed").inc()
    if "error" in answer:
        raise ERRORS.get(answer["class"], Transient)(answer["error"])
    how = f"was killed by signal {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
    hint = "; the machine was probably out of memory: try a smaller batch" if code == -signal.SIGKILL else ""
    said = f"; its last line: {last_lines[-1]}" if last_lines else ""
    raise Transient(f"the training process {how}{hint}{said}")


def _pass_on(stream: IO[str], last_lines: deque[str]) -> None:
    for line in stream:
        if line.strip():
            last_lines.append(line.rstrip()[:500])
            log.debug("training", line=line.rstrip())


def _stop_when_told(child: "subprocess.Popen[str]", heartbeat: Heartbeat) -> None:
    """End the child when the run must stop: gently first, so that it leaves a checkpoint."""
    while not (_ending.is_set() or heartbeat.must_stop):
        try:
            child.wait(0.5)
            return
        except subprocess.TimeoutExpired:
            continue
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
