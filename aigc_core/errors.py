"""Every error of the system, drawn as a tree by what the caller should do about it.

    AigcError
    ├── InvalidSpec      the order itself is wrong: refuse it, never retry        (exit code 2, HTTP 422)
    │   ├── NotFound     it names something that does not exist: a model, a data set, a job, an object
    │   ├── AlreadyOrdered an idempotency key that was used for another order: give each its own
    │   ├── ManifestRefused  lines of a manifest are wrong; `problems` has the first of them
    │   └── QuotaExceeded  the team or the queue has no room for all of it now: order less, or later
    ├── Transient        may work next time: retry with back-off, spends an attempt
    ├── Unavailable      a server that the work needs is away: wait, spends no attempt
    ├── LeaseLost        somebody else holds the chunk now: stop, write nothing
    └── Cancelled        somebody cancelled the job: stop at the next safe point, keep what was made

A message says what happened, what was expected and what to do. Adapters translate the errors of their library
(`raise Transient(...) from error`), so no caller needs to know redis, grpc or obstore.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LineProblem:
    """One thing that is wrong in one line of a file."""

    line: int  # from 1; the header line of a CSV is line 1
    field: str  # empty when it is the line as a whole
    code: str  # a word of a small set, for programs
    text: str  # what was found and what was expected, for people


class AigcError(Exception):
    """Base of every error that this project raises on purpose."""


class InvalidSpec(AigcError):
    """The order, its options or its input are wrong; the same order will always fail."""


class NotFound(InvalidSpec):
    """A model, version, data set, job or object that was named does not exist."""


class AlreadyOrdered(InvalidSpec):
    """An idempotency key that names another order than the one it comes with; nothing was taken."""


class ManifestRefused(InvalidSpec):
    """Lines of a manifest are wrong, so nothing of it was taken."""

    def __init__(self, text: str, *, problems: Sequence[LineProblem], problem_count: int) -> None:
        super().__init__(text)
        self.problems = tuple(problems)  # the first ones
        self.problem_count = problem_count  # of all


class QuotaExceeded(InvalidSpec):
    """An order that does not fit whole into what its team, or the queue, may have waiting; nothing of it was taken."""


class Transient(AigcError):
    """One try failed in a way that another try may mend."""


class Unavailable(AigcError):
    """A server is unreachable or overloaded; the work itself is not to blame."""


class LeaseLost(AigcError):
    """The lease on a chunk has expired or was given to another worker; nothing may be written any more."""


class Cancelled(AigcError):
    """The job was cancelled while the work was running."""
