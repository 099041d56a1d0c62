"""Make time an argument: the interface of a clock, and the system's own clock.

The core of the local cloud reads the time and starts timers only through a clock, so a test's clock can run through
months of tuning in milliseconds.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

log = logging.getLogger(__name__)


class Clock(Protocol):
    """The time, and a way to be called later."""

    def now(self) -> datetime:
        """Return the current time in UTC."""

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""

    def call_later(self, seconds: float, function: Callable[..., Any], *args: Any) -> None:
        """Call the function once, at least so many seconds from now, never within this call.

        The functions are called one after another. An exception is logged, and the next function is called.
        """


class SystemClock:
    """The machine's time. One thread of its own makes the later calls."""

    def __init__(self) -> None:
        self._queue: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def call_later(self, seconds: float, function: Callable[..., Any], *args: Any) -> None:
        with self._changed:
            heapq.heappush(self._queue, (time.monotonic() + seconds, next(self._order), function, args))
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="later", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Make no further later calls; pending ones are dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while (call := self._next_call()) is not None:
            function, args = call
            try:
                function(*args)
            except Exception:
                log.exception("a later call of %s failed", getattr(function, "__qualname__", function))

    def _next_call(self) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
        with self._changed:
            while not self._closed:
                wait = self._queue[0][0] - time.monotonic() if self._queue else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._queue)[2:]
                self._changed.wait(wait)
            return None
