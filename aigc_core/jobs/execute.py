"""One ticket, from claim to outcome: the only caller of `Ledger.claim`.

Work is a function from a lease to a report; it raises one of four errors and never retries by itself. The lease is renewed
while it runs, and `Heartbeat.check` raises in the work when the renewal says that it must stop.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aigc_core.clock import Clock
from aigc_core.errors import Cancelled, LeaseLost, Unavailable
from aigc_core.jobs.ledger import Ledger
from aigc_core.jobs.records import ChunkReport, Lease, Outcome
from aigc_core.jobs.retry import REST_SECONDS, cause_of, is_fatal, pause_seconds
from aigc_core.jobs.states import LeaseState

Work = Callable[[Lease, "Heartbeat"], ChunkReport]


class Heartbeat:
    """Renews a lease in a thread of its own while the work runs."""

    def __init__(self, lease: Lease, *, ledger: Ledger, clock: Clock, lease_seconds: float) -> None:
        self.state = LeaseState.HELD
        self._lease = lease
        self._ledger = ledger
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._renewed_at = clock.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease-{lease.job_id}-{lease.chunk}", daemon=True)

    @property
    def must_stop(self) -> bool:
        """Whether `check` would raise."""
        return self.state is not LeaseState.HELD

    def check(self) -> None:
        """Raise `LeaseLost` or `Cancelled` if the work must stop; call it before every write."""
        if self.state is LeaseState.LOST:
            raise LeaseLost(f"chunk {self._lease.chunk} of job {self._lease.job_id} was given to another worker")
        if self.state is LeaseState.CANCELLED:
            raise Cancelled(f"job {self._lease.job_id} was cancelled")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._over.wait(self._lease_seconds / 4) and self.state is not LeaseState.LOST:
            try:
                self.state = self._ledger.renew(self._lease, lease_seconds=self._lease_seconds)
                self._renewed_at = self._clock.monotonic()
            except Unavailable:
                # Unreachable is not yet lost; but past the lease's end somebody else may hold the chunk.
                if self._clock.monotonic() - self._renewed_at > self._lease_seconds:
                    self.state = LeaseState.LOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Executor:
    """What every ticket of a process is executed with."""

    ledger: Ledger
    clock: Clock
    worker: str
    lease_seconds: float

    def execute(self, job_id: str, work: Work) -> Outcome:
        """Claim a chunk, do the work, record what came of it; safe to call any number of times for one job."""
        lease = self.ledger.claim(job_id, worker=self.worker, lease_seconds=self.lease_seconds)
        if lease is None:
            return Outcome(job_id=job_id, kind=None, result="nothing")
        started = self.clock.monotonic()
        try:
            with Heartbeat(lease, ledger=self.ledger, clock=self.clock, lease_seconds=self.lease_seconds) as heartbeat:
                report = work(lease, heartbeat)
            completion = self.ledger.complete(lease, report)
            result, ticket = ("ok" if completion.accepted else "lost"), completion.next_ticket
            return self._outcome(lease, result, started, ticket=ticket, report=report)
        except LeaseLost as error:
            return self._outcome(lease, "lost", started, error=error)
        except Cancelled as error:
            ticket = self.ledger.release(lease, delay_seconds=0, waiting_for="")
            return self._outcome(lease, "cancelled", started, ticket=ticket, error=error)
        except Unavailable as error:
            ticket = self.ledger.release(lease, delay_seconds=REST_SECONDS, waiting_for=str(error))
            return self._outcome(lease, "snoozed", started, ticket=ticket, error=error)
        except Exception as error:
            return self._failed(lease, error, started)

    def _failed(self, lease: Lease, error: Exception, started: float) -> Outcome:
        text = f"{error}" if cause_of(error) != "Unexpected" else f"{type(error).__name__}: {error}"
        delay_seconds = pause_seconds(lease.attempt)
        result, ticket = self.ledger.fail(lease, text, delay_seconds=delay_seconds, fatal=is_fatal(error))
        word = {"retried": "retried", "lost": "lost"}.get(result, "failed")
        return self._outcome(lease, word, started, ticket=ticket, error=error)

    def _outcome(
        self,
        lease: Lease,
        result: str,
        started: float,
        *,
        ticket: bool = False,
        report: ChunkReport | None = None,
        error: Exception | None = None,
    ) -> Outcome:
        return Outcome(
            job_id=lease.job_id,
            kind=lease.kind,
            result=result,
            chunk=lease.chunk,
            attempt=lease.attempt,
            model=json.loads(lease.spec_json)["model"],
            report=report if result == "ok" else None,
            error="" if error is None else str(error) or type(error).__name__,
            cause="" if error is None else cause_of(error),
            seconds=self.clock.monotonic() - started,
            waited_seconds=lease.waited_seconds,
            next_ticket=ticket,
        )
