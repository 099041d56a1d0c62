"""Start processes in hundredths of a second: fork them from a template process that has already imported torch.

    server = ForkServer(preload=("torch", "torchvision"))
    server.warm()                                             # in the background; a launch does it too
    process = server.launch(Launch(Script("train.py"), cwd=code, log=log, env=env, argv=("--epochs", "2")))
    process.wait(10)                                          # exit status, or None after 10 s

The template's control socket is its lifeline: when this process ends, even by kill -9, the socket closes and the
template kills every child's process group. The costs: the template's memory (about 200 MB with torch), and children
that share its imports, so an entry cannot choose its own versions. See `forkserver_template`.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

log = logging.getLogger(__name__)

# Otherwise large tensors are mapped and unmapped at every step: 407,000 page faults instead of 12,000 (measured).
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1073741824", "MALLOC_TOP_PAD_": "67108864"}
# OpenMP's threads wait for one another by spinning. By default they spin so long that, beside one other busy process, a
# step takes five times as long; with a thousand turns twice as long. On a quiet machine they cost nothing (measured).
SPIN = {"GOMP_SPINCOUNT": "1000"}
LOST = -signal.SIGKILL  # the exit status of children whose template died: it kills them too


@dataclass(frozen=True)
class Script:
    """A Python program, absolute or relative to the launch's cwd. Its folder comes first on sys.path."""

    path: str

    def describe(self) -> dict[str, str]:
        return {"script": self.path}


@dataclass(frozen=True)
class Function:
    """A function of a module, `package.module:function`, called without arguments. It reads sys.argv."""

    name: str

    def describe(self) -> dict[str, str]:
        return {"function": self.name}


@dataclass(frozen=True)
class Command:
    """Any program on the launch's PATH: for what is not Python."""

    program: str

    def describe(self) -> dict[str, str]:
        return {"command": self.program}


@dataclass(frozen=True)
class Launch:
    """What a child runs.

    `env` is its whole environment. Both output streams are appended to `log`. `paths` come first on sys.path.
    """

    entry: Script | Function | Command
    cwd: Path
    log: Path
    env: Mapping[str, str]
    argv: Sequence[str] = ()
    paths: Sequence[str] = ()

    def describe(self) -> dict[str, Any]:
        return {
            "op": "launch",
            "entry": self.entry.describe(),
            "cwd": str(self.cwd.absolute()),
            "log": str(self.log.absolute()),
            "env": dict(self.env),
            "argv": list(self.argv),
            "paths": list(self.paths),
        }


@dataclass
class Process:
    """A child of the template, the leader of its own session and process group."""

    server: ForkServer = field(repr=False)
    number: int
    pid: int | None = None
    exit: int | None = None
    lost: bool = False  # ended because the template did, not by its own fault
    _ended: threading.Event = field(default_factory=threading.Event, repr=False)
    _started: threading.Event = field(default_factory=threading.Event, repr=False)

    def poll(self) -> int | None:
        """Return the exit status (minus the signal's number if it was killed), or None while it runs."""
        return self.exit

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the end, at most `seconds`. Returns the exit status, or None if it still runs."""
        self._ended.wait(seconds)
        return self.exit

    def terminate(self) -> None:
        """Send SIGTERM to the whole process group."""
        self.server.signal(self.number, signal.SIGTERM)

    def notify(self) -> None:
        """Send SIGTERM as a container's process 1 gets it: to the program alone, and only if it handles the signal.

        The kernel keeps a signal without a handler from process 1, so that it ends nothing.
        """
        self.server.signal(self.number, signal.SIGTERM, first=True)

    def kill(self) -> None:
        """Send SIGKILL to the whole process group."""
        self.server.signal(self.number, signal.SIGKILL)

    def record_pid(self, pid: int) -> None:
        self.pid = pid
        self._started.set()

    def record_exit(self, status: int) -> None:
        self.exit = status
        self._started.set()
        self._ended.set()


class ForkServer:
    """Owns one template process: starts it when first needed, and another if it was killed. Thread-safe."""

    def __init__(self, preload: Sequence[str] = ("torch", "torchvision"), python: str = sys.executable) -> None:
        self._preload = tuple(preload)
        self._python = python
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._processes: dict[int, Process] = {}
        self._template: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._closed = False
        self._ready = threading.Event()
        self.report: dict[str, Any] = {}

    def warm(self) -> None:
        """Start the template if it does not run. Returns at once, while the template imports."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the fork server is closed and launches nothing any more")
            if self._template is None:
                self._start_template()

    def wait_ready(self, seconds: float | None = None) -> dict[str, Any] | None:
        """Wait for the template's imports. Returns its report {pid, seconds, missing}, or None after `seconds`."""
        return self.report if self._ready.wait(seconds) else None

    def measure_memory(self) -> int:
        """Return the template's resident memory in bytes; 0 while there is no template."""
        with self._lock:
            template = self._template
        try:
            return int(psutil.Process(template.pid).memory_info().rss) if template else 0
        except psutil.NoSuchProcess:
            return 0

    def launch(self, launch: Launch) -> Process:
        """Start a child. Returns when it has a process id; the first launch waits for the template's start."""
        with self._lock:
            self.warm()
            process = Process(self, next(self._numbers))
            self._processes[process.number] = process
            self._send({"id": process.number, **launch.describe()})
        process._started.wait()
        return process

    def signal(self, number: int, signum: int, *, first: bool = False) -> None:
        """Signal the process group of a launch, or its first process as process 1. An ended one is ignored."""
        with self._lock:
            if number in self._processes:
                self._send({"op": "signal", "id": number, "signal": int(signum), "first": first})

    def close(self) -> None:
        """End the template and, with it, every remaining child."""
        with self._lock:
            self._closed = True
            template, control = self._template, self._control
        if control is not None:
            control.shutdown(socket.SHUT_RDWR)
        if template is not None:
            _wait_or_kill(template)

    def _start_template(self) -> None:
        self._ready.clear()
        ours, theirs = socket.socketpair()
        program = Path(__file__).with_name("forkserver_template.py")
        self._template = subprocess.Popen(
            [self._python, "-P", str(program), str(theirs.fileno()), *self._preload],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal is for the cloud alone
            env=_template_environment(),
        )
        theirs.close()
        self._control = ours
        threading.Thread(target=self._listen, args=(ours, self._template), name="forkserver", daemon=True).start()

    def _send(self, message: dict[str, Any]) -> None:
        if self._control is None:
            return
        try:
            self._control.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            log.warning("the template process is gone: %s is not carried out", message["op"])

    def _listen(self, control: socket.socket, template: subprocess.Popen[bytes]) -> None:
        with control.makefile("rb") as lines:
            try:
                for line in lines:
                    self._take(json.loads(line))
            except (OSError, ValueError) as error:
                log.warning("the template process broke off: %s", error)
        self._forget_template(template)

    def _take(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self.report = message["ready"]
            self._ready.set()
        elif "pid" in message:
            self._processes[message["id"]].record_pid(message["pid"])
        else:
            with self._lock:
                process = self._processes.pop(message["id"])
            process.record_exit(message["exit"])

    def _forget_template(self, template: subprocess.Popen[bytes]) -> None:
        _wait_or_kill(template)
        with self._lock:
            lost, self._processes = self._processes, {}
            self._template = self._control = None
            self._ready.clear()
        for process in lost.values():
            process.lost = True
            process.record_exit(LOST)


def _template_environment() -> dict[str, str]:
    """Return the cloud's own environment, changed for the template.

    PYTHONPATH is left out, since a child has its own. Libraries that start threads on import get one thread.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**SPIN, **inherited, **MALLOC, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _wait_or_kill(template: subprocess.Popen[bytes]) -> None:
    try:
        template.wait(5)
    except subprocess.TimeoutExpired:
        template.kill()
        template.wait()
