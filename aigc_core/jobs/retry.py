"""When to try again, and which failures are the same: pure rules from the error and the attempt."""

import hashlib
import random
import re

from aigc_core.errors import AigcError, InvalidSpec

#: First pause after an error, in seconds; doubled with every attempt.
PAUSE_SECONDS = 2.0
PAUSE_SECONDS_MAX = 60.0

#: How long a job rests when a server it needs is away, in seconds; then the reaper's next tick wakes it.
REST_SECONDS = 5.0

#: What differs between two failures of the same kind: ids and addresses, then numbers.
_PARTICULARS = re.compile(r"0x[0-9a-f]+|\b[gt][0-9a-f]{19}\b|\b[0-9a-f]{12,}\b|[0-9]+(?:[.,:][0-9]+)*", re.IGNORECASE)


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


def text_of(error: Exception) -> str:
    """What is recorded of an error: its text, with its class where it is none of ours."""
    return str(error) if isinstance(error, AigcError) else f"{type(error).__name__}: {error}"


def fingerprint_of(error: Exception) -> str:
    """8 hex digits, the same for failures of one class whose texts differ in numbers, ids and addresses only."""
    text = f"{type(error).__name__}: {_PARTICULARS.sub('#', text_of(error))}"
    return hashlib.blake2s(text.encode(), digest_size=4).hexdigest()
