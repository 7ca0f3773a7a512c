"""Virtual time, and actors that live in it: one runs at a time, and who is next follows from the seed alone."""

import heapq
import itertools
import random
import threading
from collections.abc import Callable

from aigc_core.clock import FixedClock


class Killed(BaseException):
    """Ends an actor where it stands: nothing of it runs any more, as after a kill -9."""


class World:
    """Events in order of their time; chance has one source."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.clock = FixedClock()
        self.started_at = self.clock.now()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self.clock.now() - self.started_at

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.seconds + seconds, next(self._order), event))

    def run(self, *, until: Callable[[], bool], seconds_max: float) -> bool:
        """Let time pass until it is so, looked at after every event; False when it was not so in time."""
        while self._events and self._events[0][0] <= seconds_max:
            at, _, event = heapq.heappop(self._events)
            self.clock.advance(max(0.0, at - self.seconds))
            event()
            if until():
                return True
        return False


class Actor:
    """A body of plain code that can sleep in virtual time. It has a thread, and runs only while `resume` waits for it."""

    def __init__(self, world: World, body: Callable[["Actor"], None], *, when_over: Callable[[], None]) -> None:
        self._world = world
        self._body = body
        self._when_over = when_over
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        self._is_killed = False
        self.is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def resume(self) -> None:
        """Run until it sleeps or is over; its error is raised here."""
        if self.is_over:
            return
        self._go.release()
        self._back.acquire()
        if self.is_over:
            self._thread.join()
            self._when_over()
        if self._error is not None:
            raise self._error

    def sleep(self, seconds: float) -> None:
        """Called by the body."""
        self._world.after(seconds, self.resume)
        self._back.release()
        self._go.acquire()
        if self._is_killed:
            raise Killed

    def kill(self) -> None:
        """Called by others, while it sleeps."""
        self._is_killed = True
        self.resume()

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._is_killed:
                self._body(self)
        except Killed:
            pass
        except BaseException as error:
            self._error = error
        self.is_over = True
        self._back.release()
