"""What every order says of itself beside the work: who, how urgent, from when, until when. And checks for all specs."""

import re
from dataclasses import dataclass
from typing import Literal

from aigc_core.errors import InvalidSpec

#: 0 is served first. One step outranks AGEING_SECONDS of waiting, so that no order of a team waits for ever.
PRIORITY_MIN, PRIORITY_MAX = 0, 9
AGEING_SECONDS = 600.0

#: `background` is worked on only while no `normal` order could be, and gives way at its next chunk.
Lane = Literal["normal", "background"]
LANES: tuple[Lane, ...] = ("normal", "background")

NAME_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
WEBHOOK_PATTERN = re.compile(r"https?://[^\s@]{1,2000}")

#: The year 2200, in seconds since 1970: a time beyond it was given in milliseconds.
TIME_MAX = 7_258_118_400.0


def check_name(name: str, what: str) -> str:
    """A name that is safe in an object key, a path and a metric label; `InvalidSpec` otherwise."""
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise InvalidSpec(
            f"{what} {name!r}: expected 1 to 64 of the characters a-z 0-9 . _ - beginning and ending with a letter or "
            "digit; choose such a name"
        )
    return name


def check_range(value: int | float, what: str, low: int | float, high: int | float) -> None:
    """Refuse a number outside [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidSpec(f"{what} {value!r}: expected a number from {low:,} to {high:,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Base of the specs. Times are seconds since 1970 UTC; 0 stands for none."""

    team: str = "default"
    priority: int = 5
    lane: Lane = "normal"
    start_at: float = 0.0  # nothing is done before
    deadline_at: float = 0.0  # wanted by then: the order is served as if it had waited since before it; nothing is dropped
    expires_at: float = 0.0  # what is not made by then is not made at all; 0 leaves it to the ledger's EXPIRY_SECONDS
    webhook: str = ""  # URL that is told when the order has ended

    def check_order(self) -> None:
        """`InvalidSpec` for the first field that is wrong."""
        check_name(self.team, "team")
        check_range(self.priority, "priority", PRIORITY_MIN, PRIORITY_MAX)
        if self.lane not in LANES:
            raise InvalidSpec(f"lane {self.lane!r}: expected one of {', '.join(LANES)}")
        for name in ("start_at", "deadline_at", "expires_at"):
            check_range(getattr(self, name), name, 0, TIME_MAX)
        if self.expires_at and self.expires_at <= self.start_at:
            raise InvalidSpec(f"expires_at {self.expires_at:.0f}: it must be later than start_at {self.start_at:.0f}")
        if self.webhook and not WEBHOOK_PATTERN.fullmatch(self.webhook):
            raise InvalidSpec(
                f"webhook {self.webhook[:80]!r}: expected http:// or https:// and an address without a password"
            )

    @property
    def ageing_seconds(self) -> float:
        """What the priority costs: seconds of waiting that make up for it."""
        return self.priority * AGEING_SECONDS

    @property
    def latest_rank(self) -> float | None:
        """The rank that the deadline allows at most: everything that a priority could cost before it."""
        return self.deadline_at - PRIORITY_MAX * AGEING_SECONDS if self.deadline_at else None

    def rank(self, *, now: float) -> float:
        """Place in the team's line: lower is served first. Linear ageing is a fixed rank, so nobody has to re-sort it.

        rank = time from which the order could be served + ageing_seconds, at most latest_rank.
        """
        aged = max(now, self.start_at) + self.ageing_seconds
        return aged if self.latest_rank is None else min(aged, self.latest_rank)
