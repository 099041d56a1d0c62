"""Hold what every fake client needs: a clock, and the trouble that can happen at a call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, ReadTimeoutError

if TYPE_CHECKING:
    from tests.fakes.world import World


class Killed(BaseException):
    """The function was ended between two calls, as Lambda does it; no `except Exception` catches this."""


class Turn:
    """A lock. A copy of what it guards has a lock of its own, which nobody holds."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Turn], tuple[()]]:
        return Turn, ()


class FakeClock:
    """A clock that moves on request, and by a millisecond whenever it is read."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 22, tzinfo=UTC)

    def now(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class Trouble:
    """What goes wrong at a call, by the number of the call from 0.

    `throttle` and `error` refuse it, `before` and `after` kill the caller there, `lost` does the work and loses the
    answer, `repeat` does so and lets the SDK call again by itself, and `meanwhile` lets another function run whole
    before it: that one is `other`. Two of them may go together, as in `meanwhile after`.
    """

    plan: dict[int, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    other: Callable[[], None] = lambda: None

    def around(self, operation: str, work: Callable[[], Any]) -> Any:
        what = self.plan.get(len(self.calls), "").split()
        self.calls.append(operation)
        if "meanwhile" in what:
            self.other()
        if "throttle" in what:
            raise fail("ThrottlingException", "Rate exceeded", operation)
        if "error" in what:
            raise fail("InternalFailure", "An internal failure occurred.", operation)
        if "before" in what:
            raise Killed(operation)
        answer = work()
        if "repeat" in what:
            answer = work()
        if "lost" in what:
            raise ReadTimeoutError(endpoint_url="https://aws.example")
        if "after" in what:
            raise Killed(operation)
        return answer


def fail(code: str, message: str, operation: str, **more: Any) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}, **more}, operation)


class Client:
    """A boto3 client whose every call goes through the world's trouble."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __getattr__(self, name: str) -> Callable[..., Any]:
        work = getattr(type(self), f"do_{name}", None)
        if work is None:
            raise AttributeError(name)
        return lambda **request: self.ask(name, request, lambda: self.answer_alone(work, request))

    def answer_alone(self, work: Callable[..., Any], request: dict[str, Any]) -> Any:
        """Answer one call at a time: a page asks from several threads, and a service never shows half a change."""
        with self.world.lock:
            return work(self, **request)

    def ask(self, name: str, request: dict[str, Any], work: Callable[[], Any]) -> Any:
        self.world.hear(self, name, request)
        return self.world.trouble.around(name, work)
