"""Deliver events from a function's queue to its handler: at least once, with retries, then a dead-letter queue.

Lambda's asynchronous invocation retries twice, after one and two minutes, and then moves the event to the function's
dead-letter queue; here the waits are shorter (`waits`). The delivering thread sleeps until something was sent (`wake`)
or a retry is due: nothing is polled. Queues live in memory. An event that is waiting when the cloud ends is lost, as
AWS may lose one; the schedules, which fire at each start, make up for it.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from moto.sqs.models import sqs_backends

from localcloud.functions.event_bus import Event, build_event, queue_lock
from localcloud.functions.invoking import FunctionError
from localcloud.stacks.provisioning import ACCOUNT, Clients, Function, TemplateError

log = logging.getLogger(__name__)
Invoke = Callable[[str, Event], Any]
Lost = Callable[[str, Event, str], None]
THREADS = 16
HIDDEN_SECONDS = 43_000
UNITS = {"minute": 60, "minutes": 60, "hour": 3600, "hours": 3600, "day": 86_400, "days": 86_400}


def parse_rate(expression: str) -> int:
    """Return the seconds of an expression such as `rate(5 minutes)`. Raises TemplateError for any other schedule."""
    match = re.fullmatch(r"rate\((\d+) (minutes?|hours?|days?)\)", expression)
    if not match or int(match[1]) < 1:
        raise TemplateError(
            f"The schedule {expression!r} is none that the local cloud knows: rate(N minutes|hours|days)."
        )
    return int(match[1]) * UNITS[match[2]]


def queue_of(function: Function) -> str:
    """Return the name of the queue between the rules and a function."""
    return f"{function.name}-events"


def subscribe(functions: Iterable[Function], clients: Clients) -> None:
    """Create each function's queue and the rules that the template gives it."""
    sqs, events = clients("sqs"), clients("events")
    for function in functions:
        if not function.patterns and not function.schedules:
            continue
        sqs.create_queue(QueueName=queue_of(function))
        arn = f"arn:aws:sqs:{sqs.meta.region_name}:{ACCOUNT}:{queue_of(function)}"
        for rule, pattern in function.patterns.items():
            events.put_rule(Name=rule, EventPattern=json.dumps(pattern))
            events.put_targets(Rule=rule, Targets=[{"Id": "function", "Arn": arn}])
        for rule, schedule in function.schedules.items():
            parse_rate(schedule)
            events.put_rule(Name=rule, ScheduleExpression=schedule)


class Delivery:
    """Delivers the messages in the functions' queues. `lost(function, event, reason)` is called for abandoned ones."""

    def __init__(
        self, functions: Iterable[Function], invoke: Invoke, *, region: str, lost: Lost, waits: tuple[int, ...] = (1, 2)
    ) -> None:
        self._functions = [function for function in functions if function.patterns or function.schedules]
        self._invoke, self._region, self._lost, self._waits = invoke, region, lost, waits
        self._wake, self._closed = threading.Event(), threading.Event()
        self._retries: list[float] = []
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="events")

    def start(self) -> None:
        """Start to deliver, and fire every schedule at once, so that work interrupted by the last shutdown goes on."""
        threading.Thread(target=self._deliver, daemon=True, name="deliver-events").start()
        for function in self._functions:
            for rule, schedule in function.schedules.items():
                run = (function, rule, parse_rate(schedule))
                threading.Thread(target=self._tick, args=run, daemon=True, name=rule).start()

    def wake(self) -> None:
        """Make the delivering thread look into the queues now."""
        self._wake.set()

    def close(self) -> None:
        self._closed.set()
        self._wake.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _tick(self, function: Function, rule: str, seconds: int) -> None:
        arn = f"arn:aws:events:{self._region}:{ACCOUNT}:rule/{rule}"
        while not self._closed.is_set():
            event = build_event("aws.events", "Scheduled Event", {}, [arn], self._region)
            with queue_lock:
                self._sqs.send_message(queue_name=queue_of(function), message_body=json.dumps(event))
            self.wake()
            self._closed.wait(seconds)

    def _deliver(self) -> None:
        while True:
            self._wake.wait(self._seconds_to_retry())
            self._wake.clear()
            if self._closed.is_set():
                return
            for function in self._functions:
                for message in self._receive(function):
                    self._pool.submit(self._attempt, function, message)

    def _seconds_to_retry(self) -> float | None:
        now = time.monotonic()
        with queue_lock:
            self._retries = [due for due in self._retries if due > now]
            return min(self._retries) - now if self._retries else None

    @property
    def _sqs(self) -> Any:
        return sqs_backends[ACCOUNT][self._region]

    def _receive(self, function: Function) -> list[Any]:
        received = []
        with queue_lock:
            while batch := self._sqs.receive_message(queue_of(function), 10, 0, HIDDEN_SECONDS):
                received += batch
        return received

    def _attempt(self, function: Function, message: Any) -> None:
        try:
            self._invoke(function.name, json.loads(message.body))
        except FunctionError as error:
            self._retry_or_lose(function, message, error)
        except Exception as error:
            log.exception("delivering to %s failed", function.name)
            self._retry_or_lose(function, message, error)
        else:
            self._delete(function, message)

    def _retry_or_lose(self, function: Function, message: Any, error: Exception) -> None:
        tries = message.approximate_receive_count
        if tries <= function.retries:
            wait = self._waits[min(tries, len(self._waits)) - 1]
            with queue_lock:
                self._sqs.change_message_visibility(queue_of(function), message.receipt_handle, wait)
                self._retries.append(time.monotonic() + wait + 0.05)  # moto hides a message until just after
            self.wake()
            return
        self._delete(function, message)
        self._bury(function, message, error)

    def _bury(self, function: Function, message: Any, error: Exception) -> None:
        """Put the event into the function's dead-letter queue with the error in its attributes, as Lambda does."""
        if function.dead_letters:
            told = {"ErrorCode": ("Number", "200"), "ErrorMessage": ("String", str(error)[:1024] or "no message")}
            attributes = {name: {"DataType": kind, "StringValue": value} for name, (kind, value) in told.items()}
            with queue_lock:
                self._sqs.send_message(
                    queue_name=function.dead_letters.rpartition(":")[2],
                    message_body=message.body,
                    message_attributes=attributes,
                )
        self._lost(function.name, json.loads(message.body), str(error))

    def _delete(self, function: Function, message: Any) -> None:
        with queue_lock:
            self._sqs.delete_message(queue_of(function), message.receipt_handle)
