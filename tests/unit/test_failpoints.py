"""Failpoints: off by default, armed by a text, refused when the text is wrong."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from aigc_core import failpoints
from aigc_core.errors import InvalidSpec, Transient
from workers.settings import settings_from


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_nothing_happens_at_a_place_that_is_not_armed() -> None:
    failpoints.hit("before_complete")
    failpoints.arm("after_complete:raise")
    failpoints.hit("before_complete")


def test_an_armed_place_fails_as_often_as_it_was_told() -> None:
    failpoints.arm("before_complete:raise,n=2")
    for _ in range(2):
        with pytest.raises(Transient, match="before_complete"):
            failpoints.hit("before_complete")
    failpoints.hit("before_complete")


def test_a_probability_decides_each_time_anew() -> None:
    failpoints.arm("after_claim:raise,p=0.5")
    failed = 0
    for _ in range(400):
        try:
            failpoints.hit("after_claim")
        except Transient:
            failed += 1
    assert 120 < failed < 280  # 8 standard deviations


@pytest.mark.parametrize(("action", "number"), [("kill", signal.SIGKILL), ("stop", signal.SIGSTOP)])
def test_a_process_ends_or_stops_itself(action: str, number: signal.Signals) -> None:
    code = f"from aigc_core import failpoints as f; f.arm('after_reap:{action}'); f.hit('after_reap')"
    child = subprocess.Popen([sys.executable, "-c", code])
    try:
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        assert (os.WSTOPSIG(status) if os.WIFSTOPPED(status) else os.WTERMSIG(status)) == number
    finally:
        if action == "stop":
            child.kill()
        child.wait()


@pytest.mark.parametrize(
    "text", ["nowhere:kill", "after_reap", "after_reap:explode", "after_reap:kill,p=2", "after_reap:kill,q"]
)
def test_a_text_that_names_nothing_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(InvalidSpec, match="failpoint"):
        settings_from({"AIGC_FAILPOINTS": text})
