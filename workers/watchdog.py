"""A thread beside the worker that looks whether it still lives up to its name, and ends the process when it does not.

Three cares. A worker that is drained stops consuming, and consumes again when the drain is undone. A worker that is told to
end hands back what it has not finished in time, so that a supervisor need not kill it. A worker that takes no ticket though
there is work, or whose event loop does not turn though Redis answers, ends with EXIT_STUCK: somebody must start it again
(compose's restart policy, systemd; `aigc up` does not).

What Celery 5.7 does with `--pool=threads`, measured with a task of 12 s. SIGTERM (warm): nothing new is taken up, tickets
that no thread has begun go back into the queue, the process waits for its threads without any limit and exits with 0 after
12.5 s. SIGQUIT (cold): "TaskPool does not implement kill_job" is an unrecoverable error; it waits for its threads as
well and exits with 1 after 13.0 s. worker_soft_shutdown_timeout=4 changes nothing for SIGTERM; for SIGQUIT, and for SIGTERM
with REMAP_SIGTERM=SIGQUIT, it sleeps 4 s before the same error. So SIGTERM is not remapped, and the limit is the one here.
"""

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from celery.signals import after_task_publish, task_prerun, worker_ready, worker_shutting_down

from aigc_core.clock import Clock
from aigc_core.errors import Unavailable
from aigc_core.jobs.ledger import Ledger
from aigc_core.jobs.states import JobKind
from workers.in_work import InWork
from workers.lifecycle import in_work, log, runtime
from workers.queues import queued_messages

#: Seconds between two looks.
LOOK_SECONDS = 2.0

#: "Temporary failure" in sysexits.h: whoever supervises starts the process again.
EXIT_STUCK = 75

#: How long the process may need, after its work was handed back, to end by itself, in seconds.
END_SECONDS = 2.0

#: A chunk, or the papers of the largest job, that takes longer hangs: every request in it has a deadline, in seconds.
WORK_SECONDS_MAX = 3600.0

#: A beat that has sent nothing for this long, or three ticks of the reaper, has stopped ticking, in seconds.
BEAT_SECONDS_MAX = 90.0

Exit = Callable[[int], Any]


class Watchdog:
    """What is looked at, and what is done about it. `look` is one look; nothing in it waits for long."""

    def __init__(
        self,
        kind: JobKind,
        queues: Sequence[str],
        *,
        ledger: Ledger,
        worker: str,
        in_work: InWork,
        clock: Clock,
        stuck_seconds: float,
        messages: Callable[[], dict[str, int]] = queued_messages,
        leave: Exit = os._exit,
    ) -> None:
        self._kind, self._queues = kind, tuple(queues)
        self._ledger, self._worker, self._in_work = ledger, worker, in_work
        self._clock, self._stuck_seconds, self._messages, self._leave = clock, stuck_seconds, messages, leave
        self._consumes = True
        self._taken_at = self._turned_at = clock.monotonic()

    def taken(self) -> None:
        """A ticket was taken up."""
        self._taken_at = self._clock.monotonic()

    def look(self, consumer: Any) -> None:
        """One look; `consumer`: Celery's, whose calls are made in its own loop."""
        consumer.call_soon(self._turned)
        try:
            self._heed_drain(consumer, self._ledger.is_draining(self._worker))
            reason = self._stuck()
        except Unavailable:
            # No news of the worker itself: it has until Redis is back, and then the whole time again.
            self._taken_at = self._turned_at = self._clock.monotonic()
            return
        if reason:
            log.error("stuck", reason=reason, exit_code=EXIT_STUCK)
            self._in_work.hand_back(self._ledger)
        elif self._kind is JobKind.GENERATION and self._in_work.longest_seconds > WORK_SECONDS_MAX:
            # Not handed back: it counts as lost, and a chunk that hangs every worker is given up after a few.
            log.error("stuck", reason=f"a chunk has been in work for {WORK_SECONDS_MAX:.0f} s", exit_code=EXIT_STUCK)
        else:
            return
        self._leave(EXIT_STUCK)

    def _turned(self) -> None:
        self._turned_at = self._clock.monotonic()

    def _heed_drain(self, consumer: Any, draining: bool) -> None:
        if draining is not self._consumes:
            return
        self._consumes = not draining
        self.taken()
        log.info("draining" if draining else "drain undone", queues=self._queues)
        for queue in self._queues:
            consumer.call_soon(consumer.cancel_task_queue if draining else consumer.add_task_queue, queue)

    def _stuck(self) -> str:
        """Why the process must be started anew; empty when it need not."""
        now = self._clock.monotonic()
        if now - self._turned_at > self._stuck_seconds:
            return f"the event loop has not turned for {now - self._turned_at:.0f} s while Redis answered"
        if not self._consumes or self._in_work.count or now - self._taken_at <= self._stuck_seconds:
            return ""
        waiting = self._messages()
        if self._ledger.has_work(self._kind) and any(waiting.get(queue) for queue in self._queues):
            return f"no ticket taken for {now - self._taken_at:.0f} s while there is work and tickets wait"
        return ""


class BeatWatchdog:
    """Ends a beat that has stopped ticking; its scrape address is another thread's and would answer for ever."""

    def __init__(self, interval_seconds: float, *, ping: Callable[[], None], clock: Clock, leave: Exit = os._exit) -> None:
        """`ping` raises `Unavailable` while Redis is away."""
        self._seconds_max = max(BEAT_SECONDS_MAX, 3 * interval_seconds)
        self._ping, self._clock, self._leave = ping, clock, leave
        self._sent_at = clock.monotonic()

    def sent(self) -> None:
        """A tick went out."""
        self._sent_at = self._clock.monotonic()

    def look(self) -> None:
        """One look."""
        try:
            self._ping()
        except Unavailable:
            self.sent()  # no beat can send anything then
        if self._clock.monotonic() - self._sent_at > self._seconds_max:
            log.error("stuck", reason=f"nothing sent for {self._seconds_max:.0f} s", exit_code=EXIT_STUCK)
            self._leave(EXIT_STUCK)


def watch_beat(interval_seconds: float) -> None:
    """Watch this process, which is beat and sends something every `interval_seconds`."""
    made = runtime()
    dog = BeatWatchdog(interval_seconds, ping=made.ledger.ping, clock=made.clock)
    after_task_publish.connect(lambda **_: dog.sent(), weak=False)
    threading.Thread(target=_look_on, args=(dog.look,), name="watchdog", daemon=True).start()


def watch(kind: JobKind, queues: Sequence[str], *, stop_seconds: float) -> None:
    """Watch this process from the moment that its worker is ready; call it before the worker starts.

    `stop_seconds`: what is not finished so long after the request to end is handed back.
    """

    def begin(sender: Any, **_: object) -> None:
        made = runtime()
        dog = Watchdog(
            kind,
            queues,
            ledger=made.ledger,
            worker=made.executor.worker,
            in_work=in_work(),
            clock=made.clock,
            stuck_seconds=made.settings.stuck_seconds,
        )
        task_prerun.connect(lambda **_: dog.taken(), weak=False)
        threading.Thread(target=_look_on, args=(partial(dog.look, sender),), name="watchdog", daemon=True).start()

    def end(**_: object) -> None:
        threading.Thread(target=_end, args=(stop_seconds,), name="ending", daemon=True).start()

    worker_ready.connect(begin, weak=False)
    worker_shutting_down.connect(end, weak=False)


def _look_on(look: Callable[[], None]) -> None:
    pause = threading.Event()
    while not pause.wait(LOOK_SECONDS):
        try:
            look()
        except Exception:
            log.exception("watchdog")  # a look that fails says nothing of the worker


def _end(stop_seconds: float) -> None:
    """Ask what is in work to stop at its next safe point; what does not is handed back, and the process ends.

    Also with nothing in work: a connection that hangs must not keep it. Usually this thread is gone with its process before.
    """
    working = in_work()
    working.wait_until_done(stop_seconds)
    working.stop()  # also what a claim that is under way brings
    working.wait_until_done(END_SECONDS)
    if not working.count:
        threading.Event().wait(stop_seconds)
        log.warning("ending: the worker has not ended by itself")
    if working.count:
        log.warning("ending in the middle of work", handed_back=working.count)
        working.hand_back(runtime().ledger)
    os._exit(0)
