"""An account in simulated time: every call may meet a fault, and hands over to the other functions meanwhile."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, cast

from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError, ConnectionClosedError

from chalicelib.services import Services
from chalicelib.settings import Settings
from tests.fakes.clients import Client, fail
from tests.fakes.world import World
from tests.histories.chaos.faults import Call, Faults
from tests.histories.chaos.living import LivingSageMaker
from tests.histories.chaos.scheduling import Scheduler

Alter = Callable[[Services], Services]


@dataclass
class Trace:
    """What happened, line by line: (moment, who, what)."""

    scheduler: Scheduler
    lines: list[tuple[float, str, str]] = field(default_factory=list)

    def add(self, what: str) -> int:
        """Add a line. Returns its number."""
        current = self.scheduler.current
        self.lines.append((self.measure(), current.name if current else "", what))
        return len(self.lines) - 1

    def amend(self, number: int, code: str) -> None:
        """Add to a call's line the error that it met."""
        moment, who, what = self.lines[number]
        self.lines[number] = (moment, who, f"{what} -> {code}")

    def __post_init__(self) -> None:
        self.began = self.scheduler.clock.time

    def measure(self) -> float:
        """Return the seconds since the history began."""
        return (self.scheduler.clock.time - self.began).total_seconds()

    def render(self) -> Iterator[str]:
        for moment, who, what in self.lines:
            days, rest = divmod(moment, 86_400)
            clock = f"{rest // 3600:02.0f}:{rest % 3600 // 60:02.0f}:{rest % 60:06.3f}"
            yield f"{f'{days:.0f}d ' if days else ''}{clock}  {who:24} {what}"


class TracedLog:
    """The functions' log, of which the trace keeps the lines."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def append_context_keys(self, **_: Any) -> AbstractContextManager[None]:
        return nullcontext()

    def info(self, message: str, extra: dict[str, Any] | None = None) -> None:
        self._trace.add(f"    {message} {extra or ''}")

    warning = error = exception = info


class Account(World):
    """An account whose SageMaker moves by itself. `alter` may put a faulty part into the functions' services.

    `interfere` is told of a call that takes long, and for how many seconds.
    """

    def __init__(self, faults: Faults, settings: Settings, alter: Alter = lambda services: services) -> None:
        super().__init__(settings)
        self.scheduler = Scheduler()
        self.clock = self.scheduler.clock
        self.trace = Trace(self.scheduler)
        self.faults, self._alter = faults, alter
        self.dice = random.Random(faults.dice.random())
        self.sagemaker: LivingSageMaker = LivingSageMaker(self, random.Random(self.dice.random()))
        self.trouble = cast(Any, self)  # it is this account that goes around the calls
        self.hear = self._note
        self._request: dict[str, Any] = {}
        self.interfere: Callable[[float], None] = lambda seconds: None
        self._thread = threading.get_ident()

    def services(self) -> Services:
        return self._alter(replace(super().services(), log=cast(Logger, TracedLog(self.trace))))

    def _note(self, client: Client, operation: str, request: dict[str, Any]) -> None:
        self._request = request

    def around(self, operation: str, work: Callable[[], Any]) -> Any:
        """Make a call of a function. The reads of a pool of threads are one with the call before them."""
        if self.scheduler.current is None or threading.get_ident() != self._thread:
            return work()
        call = Call(operation, self._request)
        self.scheduler.pause(self.faults.draw_latency())
        if self.faults.outages and (outage := self.faults.find_outage(call, self.trace.measure())):
            self.trace.add(f"{operation} {call.what}: refused, {outage.code}")
            raise fail(outage.code, "We encountered an internal error. Please try again.", operation)
        fault = self.faults.choose(call)
        at = self.trace.add(f"{operation} {call.what}{f': {fault.upper()}' if fault else ''}")
        try:
            return self._meet(fault, call, work) if fault else work()
        except ClientError as error:
            self.trace.amend(at, error.response["Error"]["Code"])
            raise

    def _meet(self, fault: str, call: Call, work: Callable[[], Any]) -> Any:
        pause, kill = self.scheduler.pause, self.scheduler.kill
        match fault:
            case "throttled":
                raise fail("ThrottlingException", "Rate exceeded", call.operation)
            case "failed":
                raise fail("InternalFailure", "The request processing has failed.", call.operation)
            case "conflict":
                raise fail("ConditionalRequestConflict", "The conditional request cannot succeed.", call.operation)
            case "entry refused":
                return {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "InternalFailure", "ErrorMessage": "again"}]}
            case "killed before":
                kill()
            case "killed after":
                self._do(work)
                kill()
            case "killed in flight":
                self.scheduler.call_later(self.dice.uniform(0.1, 20.0), lambda: self._do(work))
                kill()
            case "answer lost":
                self._do(work)
                raise ConnectionClosedError(endpoint_url="https://amazonaws.com")
            case "repeated":
                self._do(work)
                pause(self.dice.uniform(0.5, 3.0))
            case "slow before":
                self._hang()
            case "slow after":
                try:
                    return work()
                finally:
                    self._hang()
        return work()

    def _hang(self) -> None:
        """Let a call take long: that is when others should come."""
        seconds = self.faults.draw_hang()
        self.interfere(seconds)
        self.scheduler.pause(seconds)

    def _do(self, work: Callable[[], Any]) -> None:
        """Do what a call asks for, whose answer nobody gets."""
        with contextlib.suppress(ClientError):
            work()
