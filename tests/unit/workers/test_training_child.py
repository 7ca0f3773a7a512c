"""What a training worker makes of its child's end, with real children of a few lines."""

import os
import sys
import textwrap
import threading
from typing import Any

import pytest
from builders import a_training_spec
from structlog.testing import capture_logs

from aigc_core.errors import Cancelled, InvalidSpec, LeaseLost, Transient, Unavailable
from aigc_core.jobs.records import ChunkReport, Lease
from aigc_core.jobs.states import JobKind
from workers import training

LEASE = Lease(
    job_id="job", kind=JobKind.TRAINING, chunk=0, token=1, attempt=1, expires_at=60.0, spec_json=a_training_spec().to_json(),
    created_at=0.0, waited_seconds=0.0,
)  # fmt: skip

#: What every child begins with.
BEGIN = """
import json, os, signal, sys, time
order = json.loads(sys.stdin.readline())
def answer(**facts): print(json.dumps(facts), flush=True)
def stop(*_):
    answer(error="stopped; a checkpoint is kept", **{"class": "Cancelled"})
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
"""

PUBLISHED = {"model": "digits", "version": 1}


class FakeHeartbeat:
    """A lease that is held until `error` is set; the child must stop then."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    @property
    def must_stop(self) -> bool:
        return self.error is not None

    def check(self) -> None:
        if self.error is not None:
            raise self.error


class FakeLedger:
    """Keeps progress and events; `on_progress` may raise."""

    def __init__(self, on_progress: Any = lambda facts: None) -> None:
        self.progressed: list[dict[str, Any]] = []
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self._on_progress = on_progress

    def progress(self, lease: Lease, facts: dict[str, Any]) -> None:
        self.progressed.append(facts)
        self._on_progress(facts)

    def emit(self, event_type: str, job_id: str, facts: dict[str, Any]) -> None:
        self.events.append((event_type, job_id, facts))


def run(code: str, *, ledger: FakeLedger | None = None, heartbeat: FakeHeartbeat | None = None) -> ChunkReport:
    """Train in a child that runs `code` once it has read its order."""
    return training.train_in_child(
        LEASE,
        heartbeat or FakeHeartbeat(),
        ledger=ledger or FakeLedger(),
        command=[sys.executable, "-c", BEGIN + textwrap.dedent(code)],
    )


def test_a_child_that_publishes_completes_the_job_and_says_so_to_everybody() -> None:
    ledger = FakeLedger()
    report = run(
        f"""
        answer(progress={{"step": 1, "job": order["job_id"]}})
        answer(published={PUBLISHED})
        """,
        ledger=ledger,
    )
    assert report.completed == 1
    assert ledger.progressed == [{"step": 1, "job": "job"}]
    assert ledger.events == [("model.published", "job", PUBLISHED)]


def test_what_the_child_says_is_the_error_of_the_job_with_its_class() -> None:
    with pytest.raises(InvalidSpec, match=r"^no such data set$"):
        run("""answer(error="no such data set", **{"class": "InvalidSpec"})""")


def test_a_crash_tells_the_end_of_what_the_child_wrote_in_one_line_and_logs_more_of_it() -> None:
    with capture_logs() as logs, pytest.raises(Transient, match="exited with code 3") as caught:
        run(
            """
            for number in range(9):
                print("line", number, file=sys.stderr)
            print("x" * 10_000, file=sys.stderr)
            os._exit(3)
            """
        )
    assert "line 7 | line 8 | xxx" in str(caught.value)
    assert "line 6" not in str(caught.value)
    assert len(str(caught.value)) < 1_000
    assert len(str(caught.value).splitlines()) == 1
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert warning["last_lines"][:2] == ["line 0", "line 1"]


def test_a_child_that_was_killed_by_a_signal_says_which() -> None:
    with pytest.raises(Transient, match="killed by signal SIGSEGV") as caught:
        run("os.kill(os.getpid(), signal.SIGSEGV)")
    assert "memory" not in str(caught.value)


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(137)"], ids=["signal", "exit code"])
def test_a_child_that_the_kernel_killed_was_probably_out_of_memory(end: str) -> None:
    with pytest.raises(Transient, match="probably out of memory: try a smaller batch"):
        run(end)


def test_a_child_that_dies_before_it_reads_its_order_is_a_crash_like_any_other() -> None:
    with pytest.raises(Transient, match="exited with code 5"):
        training.train_in_child(
            LEASE, FakeHeartbeat(), ledger=FakeLedger(), command=[sys.executable, "-c", "import os; os._exit(5)"]
        )


def test_bytes_that_are_no_text_end_neither_the_reader_nor_the_run() -> None:
    # more than a pipe holds after the stray byte: a reader that ended would leave the child hanging
    report = run(
        f"""
        os.write(2, b"caf\\xe9\\n")
        os.write(2, b"later lines of the log\\n" * 20_000)
        answer(published={PUBLISHED})
        """
    )
    assert report.completed == 1


def test_progress_that_the_ledger_cannot_take_costs_the_run_nothing() -> None:
    def away(_: object) -> None:
        raise Unavailable("Redis is away")

    ledger = FakeLedger(away)
    report = run(f"answer(progress={{}})\nanswer(progress={{}})\nanswer(published={PUBLISHED})", ledger=ledger)
    assert report.completed == 1
    assert len(ledger.progressed) == 2


def test_an_error_while_reading_leaves_no_child_behind() -> None:
    pids: list[int] = []

    def fail(facts: dict[str, int]) -> None:
        pids.append(facts["pid"])
        raise ValueError("a fault of this process")

    with pytest.raises(ValueError, match="fault"):
        run("""answer(progress={"pid": os.getpid()})\nsignal.pause()""", ledger=FakeLedger(fail))
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_cancelled_run_is_asked_to_stop_and_ends_cancelled() -> None:
    heartbeat = FakeHeartbeat()

    def cancel(_: object) -> None:
        heartbeat.error = Cancelled("job was cancelled")

    with pytest.raises(Cancelled, match="job was cancelled"):
        run("answer(progress={})\nwhile True: signal.pause()", ledger=FakeLedger(cancel), heartbeat=heartbeat)


@pytest.mark.parametrize("error", [Cancelled("too late"), LeaseLost("somebody else has it")])
def test_a_version_that_was_published_counts_whatever_came_after(error: Exception) -> None:
    heartbeat = FakeHeartbeat()
    report = run(
        f"""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        answer(progress={{}})
        answer(published={PUBLISHED})
        """,
        ledger=FakeLedger(lambda _: setattr(heartbeat, "error", error)),
        heartbeat=heartbeat,
    )
    assert report.completed == 1


def test_a_worker_that_is_shut_down_leaves_the_run_to_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ending = threading.Event()
    monkeypatch.setattr(training, "_ending", ending)  # what Celery's signal sets
    with pytest.raises(Unavailable, match="goes on from its checkpoint"):
        run("answer(progress={})\nwhile True: signal.pause()", ledger=FakeLedger(lambda _: ending.set()))
