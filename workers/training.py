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
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any, cast

from celery.signals import worker_shutting_down

from aigc_core.errors import AigcError, Cancelled, InvalidSpec, NotFound, Transient, Unavailable
from aigc_core.jobs.execute import Heartbeat
from aigc_core.jobs.ledger import Ledger
from aigc_core.jobs.records import ChunkReport, Lease
from aigc_core.jobs.specs import TrainingSpec
from aigc_core.jobs.states import JobKind
from workers import metrics
from workers.celery_app import app
from workers.lifecycle import log, runtime, work_on
from workers.queues import WORK_TRAINING

#: How long a child may take from the request to stop until it has written its checkpoint, in seconds.
STOP_SECONDS = 60.0

#: Lines of the child's standard error that are kept for the log and told in the job's error, and characters of each.
LINES_KEPT, LINES_TOLD, LINE_LENGTH_MAX = 20, 3, 250

#: How a process ends that the kernel killed for want of memory: by the signal, or by a shell's word for it.
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)

#: The child: it reads its order from standard input and answers on standard output.
CHILD = (sys.executable, "-m", "workers.training_child")

ERRORS: dict[str, type[AigcError]] = {
    error.__name__: error for error in (InvalidSpec, NotFound, Transient, Unavailable, Cancelled)
}


#: Set when the worker was told to end: the run leaves a checkpoint and the job waits for the next worker.
_ending = threading.Event()


@worker_shutting_down.connect
def _end(**_: object) -> None:
    _ending.set()


#: One run at a time: a ticket that comes meanwhile, on the thread that is there for the reaper's ticks, is let go.
_running = threading.Lock()


@app.task(name=WORK_TRAINING)
def work() -> None:
    """Train the next job's model if there is one and nothing is trained here now."""
    if not _running.acquire(blocking=False):
        return
    try:
        outcome = work_on(JobKind.TRAINING, run, task="train")
    finally:
        _running.release()
    if outcome is not None and outcome.job_id:
        metrics.TRAINING_SECONDS.labels(outcome.result).observe(outcome.seconds)


def run(lease: Lease, heartbeat: Heartbeat) -> ChunkReport:
    """What a lease of a training job asks for."""
    return train_in_child(lease, heartbeat, ledger=runtime().ledger)


def train_in_child(lease: Lease, heartbeat: Heartbeat, *, ledger: Ledger, command: Sequence[str] = CHILD) -> ChunkReport:
    """Run the child to its end; raises what the child says, or `Transient` with its last lines when it died without a word.

    Whatever happens, the child has ended when this returns. A version that was published counts even if the job was
    cancelled or the lease lost meanwhile: it is there, and the ledger decides what the report is worth.
    """
    last_lines: deque[str] = deque(maxlen=LINES_KEPT)
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",  # a library's stray byte must not end the reader: an unread pipe fills, and the run hangs
        bufsize=1,
    ) as child:
        reader = threading.Thread(target=_pass_on, args=(child.stderr, last_lines), daemon=True)
        watcher = threading.Thread(target=_stop_when_told, args=(child, heartbeat), daemon=True)
        reader.start()
        watcher.start()
        try:
            _send_order(child, lease)
            answer = _last_answer(child, lease, ledger)
            code = child.wait()
        finally:
            _stop(child)
            watcher.join()
            reader.join()
    if code:
        log.warning("training ended badly", code=code, last_lines=list(last_lines))
    if "published" not in answer:
        heartbeat.check()
        if _ending.is_set():
            raise Unavailable("a training worker: the one that ran this job was shut down; it goes on from its checkpoint")
    return _judged(lease, answer, code, list(last_lines), ledger=ledger)


def _send_order(child: "subprocess.Popen[str]", lease: Lease) -> None:
    stdin = cast("IO[str]", child.stdin)
    with suppress(BrokenPipeError):  # it is dead already then; its exit code says why
        stdin.write(json.dumps({"job_id": lease.job_id, "spec": lease.spec_json}) + "\n")
    with suppress(BrokenPipeError):  # what could not be written is tried again by close
        stdin.close()


def _last_answer(child: "subprocess.Popen[str]", lease: Lease, ledger: Ledger) -> dict[str, Any]:
    """Pass progress on until the child closes its output; its last word, empty when it said nothing."""
    model = TrainingSpec.from_json(lease.spec_json).model
    answer: dict[str, Any] = {}
    for line in cast("IO[str]", child.stdout):
        answer = json.loads(line)
        if "progress" in answer:
            metrics.observe_training(model, answer["progress"])
            with suppress(Unavailable):  # a report of progress is not worth a run
                ledger.progress(lease, answer["progress"])
    return answer


def _judged(lease: Lease, answer: dict[str, Any], code: int, last_lines: list[str], *, ledger: Ledger) -> ChunkReport:
    model = TrainingSpec.from_json(lease.spec_json).model
    if "published" in answer:
        metrics.EXPORTS.labels(model, "ok").inc()
        ledger.emit("model.published", lease.job_id, answer["published"])
        return ChunkReport(completed=1)
    metrics.EXPORTS.labels(model, "failed").inc()
    if "error" in answer:
        raise ERRORS.get(answer["class"], Transient)(answer["error"])
    how = f"was killed by signal {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
    hint = "; the machine was probably out of memory: try a smaller batch" if code in KILLED else ""
    said = f"; its last lines: {' | '.join(last_lines[-LINES_TOLD:])}" if last_lines else ""
    raise Transient(f"the training process {how}{hint}{said}")


def _pass_on(stream: IO[str], last_lines: deque[str]) -> None:
    for line in stream:
        if line.strip():
            last_lines.append(line.strip()[:LINE_LENGTH_MAX])
            log.debug("training", line=line.rstrip())


def _stop_when_told(child: "subprocess.Popen[str]", heartbeat: Heartbeat) -> None:
    """End the child when the run must stop: gently first, so that it leaves a checkpoint."""
    while not (_ending.is_set() or heartbeat.must_stop):
        try:
            child.wait(0.5)
            return
        except subprocess.TimeoutExpired:
            continue
    _stop(child)


def _stop(child: "subprocess.Popen[str]") -> None:
    """Nothing for a child that has ended; else ask it to end, and kill it when it does not."""
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
