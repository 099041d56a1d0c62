"""Invoke the app's functions as Lambda does, each in environments of its own, which are processes.

An environment serves one invocation at a time, is kept for the next, and ends after a minute without work. A function
that exceeds its timeout is killed with its process, as in Lambda. What an environment prints goes line by line to
`log`, with the lines START, END and REPORT around each invocation. So many run at once as Lambda's limit allows; beyond
it a caller that does not wait is refused.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from localcloud.functions.environments import Environment, FunctionHost, HostError
from localcloud.functions.host import Event
from localcloud.functions.places import DEFAULT_LIMIT, NoPlace, Places
from localcloud.stacks.provisioning import ACCOUNT, Function

PAYLOAD_BYTES = 6 * 1024 * 1024
IDLE_SECONDS = 60.0
Log = Callable[[str, str], None]
Assume = Callable[[str, str], Mapping[str, str]]


def stay(_role: str, _session: str) -> Mapping[str, str]:
    """Return no credentials of a role: the function keeps the cloud's own."""
    return {}


class FunctionError(Exception):
    """An invocation failed. Lambda reports `kind` as errorType and the message as errorMessage."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class PayloadTooLarge(FunctionError):
    """The event or the answer exceeds Lambda's 6 MB."""


class TooManyRequests(FunctionError):
    """As many invocations run as Lambda's concurrency allows."""


@dataclass
class _Pool:
    function: Function
    idle: list[Environment] = field(default_factory=list)


@dataclass(frozen=True)
class _Run:
    environment: Environment
    context: dict[str, Any]


class Functions:
    """All functions of one app. `log(function, line)` takes what they print; `assume(role, session)` returns the
    variables with a role's credentials; `read_limit()` gives the concurrent executions of the account."""

    def __init__(
        self,
        functions: Iterable[Function],
        host: FunctionHost,
        *,
        region: str,
        log: Log,
        assume: Assume = stay,
        read_limit: Callable[[], int] = lambda: DEFAULT_LIMIT,
    ) -> None:
        self._pools = {function.name: _Pool(function) for function in functions}
        reserved = {name: pool.function.reserved for name, pool in self._pools.items()}
        self._places = Places(read_limit, {name: count for name, count in reserved.items() if count is not None})
        self._host, self._region, self._log, self._assume = host, region, log, assume
        self._lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._retire, daemon=True, name="retire-environments").start()

    def warm(self, name: str) -> None:
        """Start one environment of a function and keep it ready."""
        environment = self._start_environment(self._pools[name].function)
        self._give_back(self._pools[name], environment)

    def renew(self, name: str) -> None:
        """Start a new environment of a function, and end those that were waiting."""
        pool = self._pools[name]
        with self._lock:
            old = list(pool.idle)
        self.warm(name)
        with self._lock:
            replaced = [environment for environment in old if environment in pool.idle]
            pool.idle = [environment for environment in pool.idle if environment not in replaced]
        for environment in replaced:
            environment.close()

    def close(self) -> None:
        """Stop retiring environments. They end with their host."""
        self._closed.set()

    def invoke(self, name: str, event: Any, request_id: str = "") -> Any:
        """Return a function's result. Raises FunctionError where it raised, timed out, or its process ended.

        Beyond the limit of concurrent executions it waits, as events do.
        """
        call, pool = encode_event(event), self._pools[name]
        with self._places.take(name, wait=True), self._follow(pool, self._take(pool), request_id) as run:
            answer = run.environment.ask(call, run.context, pool.function.timeout)
        return read_answer(answer)

    async def answer(self, name: str, event: Any, request_id: str = "") -> Any:
        """Do as `invoke`, but never wait for a place: raise TooManyRequests. Requests need no threads this way, each of
        which would make the others wait for the interpreter."""
        call, pool = encode_event(event), self._pools[name]
        try:
            with self._places.take(name, wait=False):
                environment = self._take_idle(pool)
                if environment is None:
                    environment = await asyncio.to_thread(self._start_environment, pool.function)
                with self._follow(pool, environment, request_id) as run:
                    answer = await environment.answer(call, run.context, pool.function.timeout)
        except NoPlace:
            raise TooManyRequests("TooManyRequestsException", "Rate Exceeded.") from None
        return read_answer(answer)

    @contextmanager
    def _follow(self, pool: _Pool, environment: Environment, request_id: str) -> Iterator[_Run]:
        """Log the lines around an invocation, and take its environment back if it answered."""
        name, timeout, request_id = pool.function.name, pool.function.timeout, request_id or str(uuid.uuid4())
        started = time.monotonic()
        self._log(name, f"START RequestId: {request_id} Version: $LATEST")
        try:
            yield _Run(environment, self._describe(pool.function, request_id, environment))
        except TimeoutError:
            environment.kill()
            raise self._fail(name, request_id, f"Task timed out after {timeout:.2f} seconds") from None
        except (EOFError, ConnectionError):
            environment.close()
            raise self._fail(name, request_id, "Runtime exited without providing a reason") from None
        finally:
            milliseconds = (time.monotonic() - started) * 1000
            self._log(name, f"END RequestId: {request_id}")
            self._log(name, f"REPORT RequestId: {request_id}\tDuration: {milliseconds:.2f} ms")
        self._give_back(pool, environment)

    def _fail(self, name: str, request_id: str, reason: str) -> FunctionError:
        message = f"RequestId: {request_id} Error: {reason}"
        self._log(name, message)
        return FunctionError("Sandbox.Timedout" if "timed out" in reason else "Runtime.ExitError", message)

    def _describe(self, function: Function, request_id: str, environment: Environment) -> dict[str, Any]:
        """Return the members of Lambda's context object."""
        return {
            "aws_request_id": request_id,
            "function_name": function.name,
            "memory_limit_in_mb": str(function.memory),
            "deadline": time.time() + function.timeout,
            "log_stream_name": environment.stream,
            "invoked_function_arn": f"arn:aws:lambda:{self._region}:{ACCOUNT}:function:{function.name}",
        }

    def _take(self, pool: _Pool) -> Environment:
        return self._take_idle(pool) or self._start_environment(pool.function)

    def _take_idle(self, pool: _Pool) -> Environment | None:
        with self._lock:
            return pool.idle.pop() if pool.idle else None

    def _give_back(self, pool: _Pool, environment: Environment) -> None:
        environment.idle_since = time.monotonic()
        with self._lock:
            pool.idle.append(environment)

    def _retire(self) -> None:
        while not self._closed.wait(IDLE_SECONDS / 4):
            limit = time.monotonic() - IDLE_SECONDS
            with self._lock:
                for pool in self._pools.values():
                    for environment in [one for one in pool.idle if one.idle_since < limit]:
                        pool.idle.remove(environment)
                        environment.close()

    def _start_environment(self, function: Function) -> Environment:
        stream = f"{time.strftime('%Y/%m/%d', time.gmtime())}/[$LATEST]{uuid.uuid4().hex}"
        variables = self._variables(function, stream)
        try:
            return self._host.fork(function.handler, variables, stream, partial(self._log, function.name))
        except HostError as error:
            raise FunctionError("Runtime.ImportModuleError", f"{function.handler} did not start: {error}") from error

    def _variables(self, function: Function, stream: str) -> dict[str, str]:
        """Return a function's variables with those that Lambda adds. LAMBDA_TASK_ROOT is left out, because the X-Ray
        SDK takes it to mean that a daemon listens."""
        return {
            **function.environment,
            **self._assume(function.role, function.name),
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": stream,
            "AWS_REGION": self._region,
            "AWS_DEFAULT_REGION": self._region,
            "_HANDLER": function.handler,
            "TZ": ":UTC",
        }


class Plain(str):
    """A text without anything that JSON escapes, such as base64: an event's `body` of it is not looked through."""


def encode_event(event: Any) -> Event:
    """Return an event as it is sent. Raises PayloadTooLarge where it exceeds what Lambda takes as JSON."""
    body = event.get("body") if isinstance(event, dict) else None
    if isinstance(body, Plain):
        encoded = Event(json.dumps(event | {"body": ""}).encode(), body.encode())
    else:
        encoded = Event(json.dumps(event).encode())
    if (size := len(encoded.document) + len(encoded.body)) > PAYLOAD_BYTES:
        message = f"The event has {size} bytes; Lambda takes {PAYLOAD_BYTES}."
        raise PayloadTooLarge("RequestTooLargeException", message)
    return encoded


def read_answer(answer: bytes | bytearray) -> Any:
    """Return the result in an environment's answer. Raises FunctionError where the answer holds an error."""
    if len(answer) > PAYLOAD_BYTES:
        message = f"Response payload size exceeded maximum allowed payload size ({PAYLOAD_BYTES} bytes)."
        raise PayloadTooLarge("Function.ResponseSizeTooLarge", message)
    told = json.loads(answer)
    if "error" in told:
        raise FunctionError(told["error"]["errorType"], told["error"]["errorMessage"])
    return told["result"]
