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

from aigc_core import failpoints
from aigc_core.clock import Clock
from aigc_core.errors import Cancelled, LeaseLost, Unavailable
from aigc_core.jobs.ledger import Ledger
from aigc_core.jobs.records import FINALISE, ChunkReport, Ended, Lease, Outcome
from aigc_core.jobs.retry import REST_SECONDS, cause_of, fingerprint_of, is_fatal, pause_seconds, text_of
from aigc_core.jobs.states import JobKind, LeaseState

Work = Callable[[Lease, "Heartbeat"], ChunkReport]


class Heartbeat:
    """Renews a lease in a thread of its own while the work runs."""

    def __init__(
        self,
        lease: Lease,
        *,
        ledger: Ledger,
        clock: Clock,
        lease_seconds: float,
        renew_every_seconds: float | None = None,  # a quarter of the lease; another for a simulation, whose time is not real
    ) -> None:
        self.state = LeaseState.HELD
        self._lease = lease
        self._ledger = ledger
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._renew_every_seconds = renew_every_seconds or lease_seconds / 4
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
        while not self._over.wait(self._renew_every_seconds) and self.state is not LeaseState.LOST:
            asked_at = self._clock.monotonic()
            try:
                self.state = self._ledger.renew(self._lease, lease_seconds=self._lease_seconds)
                self._renewed_at = asked_at
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
    renew_every_seconds: float | None = None

    def execute(self, kind: JobKind, work: Work) -> Outcome:
        """Claim a chunk, do the work, record what came of it; safe to call any number of times.

        `Unavailable` only when the ledger is away at the claim: no lease is held then.
        """
        lease = self.ledger.claim(kind, worker=self.worker, lease_seconds=self.lease_seconds)
        if lease is None:
            draining = self.ledger.is_draining(self.worker)
            return Outcome(kind=kind, result="draining" if draining else "nothing")
        failpoints.hit("after_claim")
        started = self.clock.monotonic()
        try:
            return self._done(lease, work, started)
        except Unavailable as error:
            # The ledger itself went away: the lease runs out, and the reaper hands the chunk on.
            return self._outcome(lease, Ended(result="lost", more=False), started, error=error)

    def _done(self, lease: Lease, work: Work, started: float) -> Outcome:
        try:
            with self._heartbeat(lease) as heartbeat:
                report = work(lease, heartbeat)
        except LeaseLost as error:
            return self._outcome(lease, Ended(result="lost", more=True), started, error=error)
        except Cancelled as error:
            ended = self.ledger.snooze(lease, delay_seconds=0, waiting_for="")
            return self._outcome(lease, ended, started, word="cancelled", error=error)
        except Unavailable as error:
            ended = self.ledger.snooze(lease, delay_seconds=REST_SECONDS, waiting_for=str(error))
            return self._outcome(lease, ended, started, word="snoozed", error=error)
        except Exception as error:
            ended = self.ledger.fail(
                lease,
                text_of(error),
                fingerprint=fingerprint_of(error),
                delay_seconds=pause_seconds(lease.attempt),
                fatal=is_fatal(error) and lease.chunk != FINALISE,  # what is made is made: its papers are tried again
            )
            word = "retried" if ended.result == "retried" else "failed"
            return self._outcome(lease, ended, started, word=word, error=error)
        failpoints.hit("before_complete")
        ended = self.ledger.complete(lease, report)
        failpoints.hit("after_complete")
        return self._outcome(lease, ended, started, word="ok", report=report)

    def _heartbeat(self, lease: Lease) -> Heartbeat:
        return Heartbeat(
            lease,
            ledger=self.ledger,
            clock=self.clock,
            lease_seconds=self.lease_seconds,
            renew_every_seconds=self.renew_every_seconds,
        )

    def _outcome(
        self,
        lease: Lease,
        ended: Ended,
        started: float,
        *,
        word: str = "lost",
        report: ChunkReport | None = None,
        error: Exception | None = None,
    ) -> Outcome:
        return Outcome(
            kind=lease.kind,
            result=word if ended.accepted else "lost",
            job_id=lease.job_id,
            chunk=lease.chunk,
            attempt=lease.attempt,
            model=json.loads(lease.spec_json)["model"],
            report=report if ended.accepted else None,
            items_given_up=ended.items_given_up,
            error="" if error is None else str(error) or type(error).__name__,
            cause="" if error is None else cause_of(error),
            seconds=self.clock.monotonic() - started,
            waited_seconds=lease.waited_seconds,
            more=ended.more,
        )
