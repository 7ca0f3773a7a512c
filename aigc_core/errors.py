"""Every error of the system, drawn as a tree by what the caller should do about it.

    AigcError
    ├── InvalidSpec      the order itself is wrong: refuse it, never retry        (exit code 2, HTTP 422)
    │   ├── NotFound     it names something that does not exist: a model, a data set, a job, an object
    │   ├── AlreadyOrdered an idempotency key that was used for another order: give each its own
    │   └── QuotaExceeded  the team or the queue has no room for all of it now: order less, or later
    ├── Transient        may work next time: retry with back-off, spends an attempt
    ├── Unavailable      a server that the work needs is away: wait, spends no attempt
    ├── LeaseLost        somebody else holds the chunk now: stop, write nothing
    └── Cancelled        somebody cancelled the job: stop at the next safe point, keep what was made

A message says what happened, what was expected and what to do. Adapters translate the errors of their library
(`raise Transient(...) from error`), so no caller needs to know redis, grpc or obstore.
"""


class AigcError(Exception):
    """Base of every error that this project raises on purpose."""


class InvalidSpec(AigcError):
    """The order, its options or its input are wrong; the same order will always fail."""


class NotFound(InvalidSpec):
    """A model, version, data set, job or object that was named does not exist."""


class AlreadyOrdered(InvalidSpec):
    """An idempotency key that names another order than the one it comes with; nothing was taken."""


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
