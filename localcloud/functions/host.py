"""Import the app once, in a process of its own, and fork the functions' environments from it.

The process is started as `python -m localcloud.functions.host SOCKET MODULE` with one end of a socket pair. Each
message on the socket asks for one environment. It is JSON with the function's handler and variables, and carries two
descriptors: the environment's own socket and the pipe of its log. The fork takes a few milliseconds and shares the
imports' memory.

An environment is what a Lambda execution environment is: one process, one invocation at a time. The app needs that:
Chalice keeps the current request on the app, and powertools keeps log keys and metrics in the process, so two
invocations in one process would read each other's. When the control socket closes, however the local cloud ended, all
environments end.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import struct
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LENGTH = struct.Struct("!I")
SELDOM = (20_000, 20, 20)  # an invocation makes hundreds of objects, and looking for cycles among them takes 5 % of it
MESSAGE_BYTES = 1 << 16
PRIME, PRIMED = b"prime", b"primed"
# The first invocation would import the tracer's recorder.
IMPORTED_ANYWAY = ("aws_lambda_powertools.tracing", "aws_xray_sdk.core")
PRIMED_SERVICES = ("s3", "sagemaker", "sagemaker-runtime", "events", "sns", "secretsmanager")


@dataclass(frozen=True)
class Event:
    """An event as it is sent: its JSON, and apart from it a `body` of plain ASCII, which need not be searched."""

    document: bytes
    body: bytes = b""


def frame(*parts: bytes) -> bytes:
    """Return one message: its length in four bytes, then its parts."""
    return b"".join((LENGTH.pack(sum(map(len, parts))), *parts))


def write_call(event: Event, context: dict[str, Any]) -> bytes:
    """Return an invocation's message: the length of its JSON, the JSON, and the event's body where it stands apart."""
    document = b'{"context":%b,"event":%b}' % (json.dumps(context).encode(), event.document)
    return frame(LENGTH.pack(len(document)), document, event.body)


def read_call(sent: bytes | bytearray) -> tuple[Any, Context]:
    """Return the event and the context that a message holds."""
    end = LENGTH.size + LENGTH.unpack_from(sent)[0]
    call = json.loads(sent[LENGTH.size : end])
    if end < len(sent):
        call["event"]["body"] = str(memoryview(sent)[end:], "ascii")
    return call["event"], Context(**call["context"])


def receive_frame(connection: socket.socket) -> bytearray:
    """Receive one message. Raises EOFError where the other side is gone."""
    (length,) = LENGTH.unpack(_receive_exactly(connection, LENGTH.size))
    return _receive_exactly(connection, length)


def _receive_exactly(connection: socket.socket, size: int) -> bytearray:
    body, received = bytearray(size), 0
    with memoryview(body) as rest:
        while received < size:
            if not (more := connection.recv_into(rest[received:])):
                raise EOFError("the other side has closed the connection")
            received += more
    return body


@dataclass
class Context:
    """Lambda's context object, with the members that handlers, Chalice and powertools read."""

    aws_request_id: str
    function_name: str
    memory_limit_in_mb: str
    deadline: float
    log_stream_name: str
    invoked_function_arn: str
    function_version: str = "$LATEST"
    identity: None = None
    client_context: None = None

    @property
    def log_group_name(self) -> str:
        return f"/aws/lambda/{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.deadline - time.time()) * 1000))


def serve_environment(connection: socket.socket, handler_name: str) -> None:
    """Answer invocations one after another until the socket closes."""
    gc.set_threshold(*SELDOM)
    module, _, attribute = handler_name.rpartition(".")
    handler = getattr(importlib.import_module(module), attribute)
    connection.sendall(frame(json.dumps({"pid": os.getpid()}).encode()))
    while True:
        answer = invoke(handler, *read_call(receive_frame(connection)))
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(frame(answer))


def invoke(handler: Any, event: Any, context: Context) -> bytes:
    """Return what Lambda's runtime answers: the handler's result, or its error in Lambda's three members."""
    try:
        return json.dumps({"result": handler(event, context)}).encode()
    except Exception as error:  # noqa: BLE001  # whatever a handler raises becomes its invocation's answer
        trace = traceback.format_exc()
        print(f"[ERROR] {type(error).__name__}: {error}\n{trace}", file=sys.stderr)
        described = {"errorMessage": str(error), "errorType": type(error).__name__, "stackTrace": trace.splitlines()}
        return json.dumps({"error": described}).encode()


def fork_environment(control: socket.socket, order: dict[str, Any], descriptors: list[int]) -> None:
    """Fork one environment. Only the parent returns."""
    if os.fork():
        for descriptor in descriptors:
            os.close(descriptor)
        return
    status = 1
    try:
        control.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.update(order["environment"])
        for stream in (1, 2):
            os.dup2(descriptors[1], stream)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        with contextlib.suppress(EOFError, ConnectionError):
            serve_environment(socket.socket(fileno=descriptors[0]), order["handler"])
        status = 0
    except BaseException:  # noqa: BLE001  # a forked process must never go on as its parent
        traceback.print_exc()
    finally:
        os._exit(status)


def prime() -> None:
    """Do once, for all later environments, what each would do at its first invocation: half a second and 40 MB.

    AWS's SnapStart is the same idea. The cloud asks for it once it is up, so that its own start is not delayed."""
    import boto3

    from localcloud.functions.wire import Wire

    for service in PRIMED_SERVICES:
        boto3.client(service)  # the default session keeps the parsed service model
    Wire().attach(boto3.DEFAULT_SESSION.events)
    freeze()


def freeze() -> None:
    """Exclude all present objects from collections: a collection in a child would write to, and copy, shared pages."""
    gc.collect()
    gc.freeze()


def serve_host(control: socket.socket) -> None:
    """Fork environments until the control socket closes; then kill them all."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the environments
    freeze()
    while True:
        message, descriptors, _flags, _address = socket.recv_fds(control, MESSAGE_BYTES, 2)
        if not message:
            break
        if message == PRIME:
            prime()
            control.sendall(PRIMED)
        else:
            fork_environment(control, json.loads(message), descriptors)
    os.killpg(os.getpgrp(), signal.SIGKILL)  # this process was started as the leader of a group


def main() -> None:
    descriptor, module = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the cloud ends this process
    sys.path.insert(0, str(Path.cwd()))
    for name in (module, *IMPORTED_ANYWAY):
        importlib.import_module(name)
    serve_host(socket.socket(fileno=int(descriptor)))


if __name__ == "__main__":
    main()
