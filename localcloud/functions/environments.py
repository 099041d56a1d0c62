"""Start the host process of `host.py` and have it fork environments; this is the cloud's side of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.functions.host import LENGTH, PRIME, PRIMED, Event, receive_frame, write_call

PACKAGE = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
PIECE_BYTES = 1 << 16
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
Lines = Callable[[str], None]


class HostError(Exception):
    """The host ended, or an environment ended before it could serve; the log says why."""


@dataclass
class Environment:
    """One forked process of one function."""

    connection: socket.socket
    stream: str
    process: int
    idle_since: float = 0.0

    def ask(self, event: Event, context: dict[str, Any], timeout: float) -> bytearray:
        """Return the answer to an event.

        Raises TimeoutError, and EOFError or ConnectionError where the process ended.
        """
        self.connection.settimeout(timeout)
        self.connection.sendall(write_call(event, context))
        return receive_frame(self.connection)

    async def answer(self, event: Event, context: dict[str, Any], timeout: float) -> bytearray:
        """Do as `ask`, on a loop."""
        loop = asyncio.get_running_loop()
        self.connection.settimeout(0)
        async with asyncio.timeout(timeout):
            await loop.sock_sendall(self.connection, write_call(event, context))
            body = bytearray()
            while len(body) < LENGTH.size or len(body) < LENGTH.size + LENGTH.unpack_from(body)[0]:
                if not (piece := await loop.sock_recv(self.connection, PIECE_BYTES)):
                    raise EOFError("the function's process has ended")
                body += piece
        return body[LENGTH.size :]

    def close(self) -> None:
        self.connection.close()

    def kill(self) -> None:
        os.kill(self.process, signal.SIGKILL)
        self.connection.close()


class FunctionHost:
    """The process that has imported the app's module. `log` takes what it prints before any environment is forked.

    `variables` are what the module may read when it is imported. Each environment adds its own variables and its
    credentials. The host has no credentials: boto3's session, which all environments inherit, would keep them.
    """

    def __init__(self, project: Path, module: str, variables: Mapping[str, str], log: Lines) -> None:
        self._project, self._module, self._log = project, module, log
        self._variables = os.environ | dict(variables)
        self._credentials = {name: self._variables.pop(name) for name in CREDENTIALS if name in self._variables}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Start importing the app, without waiting for it."""
        with self._lock:
            self._open()

    def fork(self, handler: str, variables: Mapping[str, str], stream: str, log: Lines) -> Environment:
        """Fork a new environment for a handler. Raises HostError."""
        ours, theirs = socket.socketpair()
        reader, writer = os.pipe()
        order = {"handler": handler, "environment": self._credentials | dict(variables)}
        with self._lock:  # one order at a time: the host reads each as one message
            socket.send_fds(self._open(), [json.dumps(order).encode()], [theirs.fileno(), writer])
            theirs.close()  # so that the end of the environment is the end of the stream
            os.close(writer)
            follow(reader, log)
            ours.settimeout(START_SECONDS)
            try:
                process = json.loads(receive_frame(ours))["pid"]
            except (EOFError, OSError) as error:
                self._close()
                raise HostError(f"{type(error).__name__}: {error}") from error
        return Environment(ours, stream, process)

    def prime(self) -> None:
        """Do once, in the host, what every new environment would otherwise do at its first invocation."""
        with self._lock:
            control = self._open()
            control.sendall(PRIME)
            control.recv(len(PRIMED))

    def close(self) -> None:
        """Stop the host and every environment."""
        with self._lock:
            self._close()

    def _open(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        ours, theirs = socket.socketpair()
        reader, writer = os.pipe()
        path = os.pathsep.join([str(PACKAGE), str(self._project)])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "localcloud.functions.host", str(theirs.fileno()), self._module],
                cwd=self._project,
                env=self._variables | {"PYTHONPATH": path},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                start_new_session=True,
            )
        os.close(writer)
        follow(reader, self._log)
        self._control = ours
        return ours

    def _close(self) -> None:
        if self._control is not None and self._process is not None:
            self._control.close()
            self._process.wait(10)
        self._control = None


def follow(descriptor: int, log: Lines) -> None:
    """Pass each line read from a pipe to `log`, on a thread of its own."""

    def read() -> None:
        with os.fdopen(descriptor, errors="replace") as lines:
            for line in lines:
                log(line.rstrip("\n"))

    threading.Thread(target=read, daemon=True, name="follow-log").start()
