"""The states of a job and the legal moves between them.

    scheduled → available → running → completed | completed_with_errors | failed | cancelled

`scheduled` waits for a time, `available` for its first worker. The last four are final. A chunk has no stored state: it is
done (a bit), leased, waiting for its back-off, discarded, or, most of the time, simply not yet handed out.
"""

from enum import StrEnum


class JobState(StrEnum):
    SCHEDULED = "scheduled"
    AVAILABLE = "available"
    RUNNING = "running"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Nothing follows any more."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({JobState.COMPLETED, JobState.COMPLETED_WITH_ERRORS, JobState.FAILED, JobState.CANCELLED})


class JobKind(StrEnum):
    GENERATION = "generation"
    TRAINING = "training"


class LeaseState(StrEnum):
    """What a renewal says to the worker that holds the lease."""

    HELD = "held"  # go on
    LOST = "lost"  # somebody else may have the chunk: stop, write nothing
    CANCELLED = "cancelled"  # the job was cancelled: stop at the next safe point
