"""When to try again: pure rules from the error and the attempt."""

import random

from aigc_core.errors import AigcError, InvalidSpec

#: First pause after an error, in seconds; doubled with every attempt.
PAUSE_SECONDS = 2.0
PAUSE_SECONDS_MAX = 60.0

#: How long a job rests when a server it needs is away, in seconds; then one ticket looks again.
REST_SECONDS = 5.0


def pause_seconds(attempt: int, *, jitter: random.Random | None = None) -> float:
    """Exponential back-off with half of it random, so that chunks that failed together do not come back together."""
    full = min(PAUSE_SECONDS * 2.0 ** (attempt - 1), PAUSE_SECONDS_MAX)
    return full * (0.5 + 0.5 * (jitter or random).random())


def is_fatal(error: Exception) -> bool:
    """Whether every further chunk of the job would fail in the same way."""
    return isinstance(error, InvalidSpec)


def cause_of(error: Exception) -> str:
    """The class of an error as one word of a closed set: a metric label."""
    return type(error).__name__ if isinstance(error, AigcError) else "Unexpected"
