"""What a process works on just now: its leases, so that they can be stopped and handed back when the process must end."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from aigc_core.clock import Clock
from aigc_core.errors import AigcError, Cancelled
from aigc_core.jobs.execute import Heartbeat
from aigc_core.jobs.ledger import Ledger
from aigc_core.jobs.records import Lease


class InWork:
    """The leases that this process works on; for all its threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._leases: dict[int, tuple[Lease, float]] = {}  # by fencing token, with the time of their begin
        self._changed = threading.Condition()
        self._stopping = threading.Event()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._leases)

    @property
    def longest_seconds(self) -> float:
        """How long the one that began first has been in work; 0 when there is none."""
        begun = [at for _, at in list(self._leases.values())]
        return self._clock.monotonic() - min(begun) if begun else 0.0

    @contextmanager
    def lease(self, lease: Lease) -> Iterator[None]:
        """The lease is worked on inside."""
        with self._changed:
            self._leases[lease.token] = (lease, self._clock.monotonic())
        try:
            yield
        finally:
            with self._changed:
                del self._leases[lease.token]
                self._changed.notify_all()

    def stop(self) -> None:
        """From now on `check` raises."""
        self._stopping.set()

    def check(self) -> None:
        """Raise `Cancelled`, upon which the chunk is handed back, once the process must end."""
        if self._stopping.is_set():
            raise Cancelled("this worker is being shut down")

    def wait_until_done(self, seconds: float) -> bool:
        """Wait until nothing is in work, so long at most; whether nothing is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._leases, seconds)

    def hand_back(self, ledger: Ledger) -> None:
        """Give every lease back, no attempt spent; who still works on one finds it lost."""
        for lease, _ in list(self._leases.values()):
            with suppress(AigcError):  # it runs out by itself then
                ledger.snooze(lease, delay_seconds=0, waiting_for="")


class StoppableHeartbeat(Heartbeat):
    """A heartbeat that also says when the process must end; renewing is left to the one that it wraps."""

    def __init__(self, heartbeat: Heartbeat, in_work: InWork) -> None:
        self._heartbeat, self._in_work = heartbeat, in_work

    @property
    def must_stop(self) -> bool:
        return self._heartbeat.must_stop

    def check(self) -> None:
        self._heartbeat.check()
        self._in_work.check()
