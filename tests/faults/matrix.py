"""What a row of the fault matrix is, and what running one gives."""

from collections.abc import Callable
from dataclasses import dataclass, field

from faults.plant import Plant
from faults.verify import problems

#: Chunks that must wait in a flow, so that a fault never finds its workers without work.
SPARE_CHUNKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a row found. `problems` holds everything that `verify` had to say of its jobs: it must be empty."""

    n: int
    figure: str
    ok: bool = True  # what must hold beside
    problems: list[str] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)  # seconds, one for each fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault: `run(plant, n)` injects it n times."""

    number: int
    fault: str
    required: str
    run: Callable[[Plant, int], Seen]
    n: int  # of `make faults`
    n_full: int  # of the matrix
    n_test: int = 0  # of `make test`; 0: not there
    recovery_seconds_max: float | None = None


@dataclass(frozen=True, slots=True)
class NotRun:
    """A fault that is not injected, and why."""

    number: int
    fault: str
    reason: str


class Flow:
    """Jobs that run without a pause while faults are injected, each verified when it has ended."""

    def __init__(self, plant: Plant, *, count: int = 1_024, chunk_items: int = 64) -> None:
        self.plant = plant
        self.job_id = ""
        self.jobs: list[str] = []
        self._count, self._chunk_items = count, chunk_items

    def tend(self) -> str:
        """The job that runs now, and has chunks that nobody has taken."""
        if not self.job_id:
            self.order()
            self.plant.wait_chunks(self.job_id, 1)
        job = self.plant.ledger.job(self.job_id)
        if job.chunk_count - job.chunks_done - job.chunks_running < SPARE_CHUNKS:
            self.order()
        self.plant.read_events()
        return self.job_id

    def order(self) -> None:
        """One more job, so that there is something left to do after a fault."""
        self.job_id = self.plant.order(self._count, chunk_items=self._chunk_items)
        self.jobs.append(self.job_id)

    def finish(self, seconds: float = 90) -> list[str]:
        """Wait for all; what is wrong with them."""
        for job_id in self.jobs:
            self.plant.wait_final(job_id, seconds)
        self.plant.read_events()
        return [text for job_id in self.jobs for text in problems(self.plant, job_id)]
