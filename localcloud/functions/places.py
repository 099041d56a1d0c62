"""Count invocations against Lambda's concurrency: an account's limit, and what functions have reserved of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

DEFAULT_LIMIT = 50  # environments of 10 MB each: what a machine of two cores holds with ease


class NoPlace(Exception):
    """As many invocations run as the limit allows."""


class Places:
    """The places of all functions. `read_limit()` gives the account's limit now; `reserved` is by function."""

    def __init__(self, read_limit: Callable[[], int], reserved: Mapping[str, int]) -> None:
        self._read_limit, self._reserved = read_limit, reserved
        self._changed = threading.Condition()
        self._running: dict[str, int] = {}
        self._waiting: dict[str, int] = {}

    @contextmanager
    def take(self, function: str, *, wait: bool) -> Iterator[None]:
        """Hold a place. Raises NoPlace where there is none, and nobody wants to wait for one.

        Who waits, as events do, is served first: a stream of requests must not keep events out.
        """
        group = function if function in self._reserved else ""
        with self._changed:
            if wait:
                self._wait(group)
            elif self._count(self._running, group) + self._count(self._waiting, group) >= self._limit(group):
                raise NoPlace(function)
            self._running[group] = self._count(self._running, group) + 1
        try:
            yield
        finally:
            with self._changed:
                self._running[group] -= 1
                self._changed.notify_all()

    def _wait(self, group: str) -> None:
        self._waiting[group] = self._count(self._waiting, group) + 1
        self._changed.wait_for(lambda: self._count(self._running, group) < self._limit(group))
        self._waiting[group] -= 1

    def _limit(self, group: str) -> int:
        """Return the places of a function that has reserved some, or those that are left for all others."""
        return self._reserved[group] if group else max(self._read_limit() - sum(self._reserved.values()), 1)

    @staticmethod
    def _count(counts: Mapping[str, int], group: str) -> int:
        return counts.get(group, 0)
