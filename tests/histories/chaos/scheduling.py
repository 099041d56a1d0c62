"""Run many functions side by side in simulated time. One runs at a time, and hands over whenever it pauses."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from greenlet import getcurrent, greenlet

from tests.fakes.clients import FakeClock, Killed

Act = Callable[[], object]


class SimulatedClock(FakeClock):
    """Simulated time: a function that sleeps hands over to the others."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler

    def sleep(self, seconds: float) -> None:
        self._scheduler.pause(seconds)


class Task:
    """One invocation of a function. A killed one wakes no more, except to unwind. `failure` is what it raised."""

    def __init__(self, name: str, work: Act, ended: Callable[[Task], object]) -> None:
        self.name, self.ended = name, ended
        self.is_killed = False
        self.failure: Exception | None = None
        self.answer: object = None
        self.greenlet = greenlet(partial(self._run, work))

    def _run(self, work: Act) -> None:
        try:
            self.answer = work()
        except Killed:
            self.is_killed = True
        except Exception as error:  # noqa: BLE001  whoever started the task judges it
            self.failure = error


class Scheduler:
    """Makes what is due, in the order of time. Nothing else decides who runs, so that a history can be replayed."""

    def __init__(self) -> None:
        self.clock = SimulatedClock(self)
        self.current: Task | None = None
        self.running = 0
        self._hub = getcurrent()
        self._due: list[tuple[datetime, int, Act]] = []
        self._order = itertools.count()

    def call_later(self, seconds: float, act: Act) -> None:
        moment = self.clock.time + timedelta(seconds=seconds)
        heapq.heappush(self._due, (moment, next(self._order), act))

    def start(self, name: str, work: Act, limit: float, ended: Callable[[Task], object]) -> None:
        """Start a function, which is killed after `limit` seconds. `ended` is called however it ends."""
        task = Task(name, work, ended)
        self.running += 1
        self.call_later(limit, partial(self._expire, task))
        self._resume(task)

    def _resume(self, task: Task) -> None:
        if task.greenlet.dead:
            return
        self.current = task
        task.greenlet.switch()
        self.current = None
        if task.greenlet.dead:
            self.running -= 1
            task.ended(task)

    def _expire(self, task: Task) -> None:
        if not task.greenlet.dead:
            task.is_killed = True
            self._resume(task)

    def pause(self, seconds: float) -> None:
        """Hand over to the others, and go on after `seconds`. Raises Killed in a function that was killed."""
        task = self.current
        if task is None:
            self.clock.time += timedelta(seconds=seconds)
            return
        if not task.is_killed:
            self.call_later(seconds, partial(self._resume, task))
            self._hub.switch()
        if task.is_killed:
            raise Killed(task.name)

    def kill(self) -> None:
        """Kill the running function: whatever it still tries has no effect. Raises Killed."""
        assert self.current is not None
        self.current.is_killed = True
        raise Killed(self.current.name)

    def run(self, seconds: float) -> None:
        """Let time pass, with everything that is due in it."""
        until = self.clock.time + timedelta(seconds=seconds)
        while self._due and self._due[0][0] <= until:
            moment, _, act = heapq.heappop(self._due)
            self.clock.time = max(self.clock.time, moment)
            act()
        self.clock.time = max(self.clock.time, until)
