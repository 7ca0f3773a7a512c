"""Places at which a test may end, stop or fail a process: the boundaries between two writes that are not one.

`AIGC_FAILPOINTS="after_results_put:kill,p=0.1;before_complete:raise,n=1"` arms them. Nothing is armed by default, and `hit`
is then one truth test.
"""

import os
import random
import signal
import threading
from dataclasses import dataclass

from aigc_core.errors import InvalidSpec, Transient

#: Every place there is, in the order in which a job passes them.
POINTS = (
    "after_spec_put", "after_submit", "after_submit_tickets",
    "after_claim", "after_images_put", "before_results_put", "after_results_put", "before_complete", "after_complete",
    "before_next_ticket", "after_next_ticket",
    "after_reap", "after_reap_tickets",
    "before_publish_rename", "after_publish_rename",
)  # fmt: skip

ACTIONS = ("kill", "stop", "raise")  # SIGKILL to this process, SIGSTOP to it, `Transient`


@dataclass(slots=True)
class Failpoint:
    """What happens at an armed place; `left` counts down."""

    action: str
    probability: float = 1.0
    left: float = float("inf")  # times that it still happens in this process


_armed: dict[str, Failpoint] = {}
_lock = threading.Lock()


def hit(name: str) -> None:
    """Say that this place was reached; does nothing unless it is armed."""
    if _armed:
        _act(name)


def arm(text: str) -> None:
    """Arm what the text names, and nothing else; the empty text disarms all. `InvalidSpec` as `parse` has it."""
    parsed = parse(text)
    _armed.clear()
    _armed.update(parsed)


def parse(text: str) -> dict[str, Failpoint]:
    """`name:action[,p=probability][,n=times]`, several separated by `;`. `InvalidSpec` for anything else."""
    parsed = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        name, _, rest = entry.partition(":")
        action, *options = rest.split(",")
        if name not in POINTS or action not in ACTIONS:
            raise InvalidSpec(
                f"failpoint {entry!r}: expected NAME:ACTION with a name of {', '.join(POINTS)} and an action of "
                f"{', '.join(ACTIONS)}"
            )
        parsed[name] = Failpoint(action, **dict(_option(entry, option) for option in options))
    return parsed


def _option(entry: str, text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if name == "p" and 0 < number <= 1:
        return "probability", number
    if name == "n" and number >= 1:
        return "left", number
    raise InvalidSpec(f"failpoint {entry!r}: option {text!r} is neither p=PROBABILITY in (0, 1] nor n=TIMES from 1")


def _act(name: str) -> None:
    point = _armed.get(name)
    if point is None or random.random() >= point.probability:
        return
    with _lock:
        if point.left < 1:
            return
        point.left -= 1
    if point.action == "raise":
        raise Transient(f"failpoint {name}")
    os.kill(os.getpid(), signal.SIGKILL if point.action == "kill" else signal.SIGSTOP)
