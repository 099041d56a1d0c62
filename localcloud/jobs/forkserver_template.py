"""Run the template process: import heavy packages once, run none of their operations, and fork children on demand.

A child starts in hundredths of a second, where a fresh interpreter needs seconds to import torch. Forking is safe only
because the template has one thread and never ran a threaded operation. Otherwise the child would hang.

It runs as a program, with the standard library alone: `python -P forkserver_template.py FD PACKAGE…`. FD is a stream
socket of JSON lines. It takes {"op": "launch", "id", "entry", "argv", "env", "cwd", "log", "paths"} and {"op":
"signal", "id", "signal", "first"}, where `first` asks for the first process alone. It sends {"ready": {…}}, {"id",
"pid"} and {"id", "exit"}. When the socket closes, however the other side ended, the template kills the process groups
of all its children and ends.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import pathlib
import random
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
import warnings
from typing import Any

PR_SET_PDEATHSIG = 1
LARGEST_READ = 1 << 16


def main() -> None:
    """Serve launches until the socket closes. In a forked child, run its request."""
    control = socket.socket(fileno=int(sys.argv[1]))
    preload(control, sys.argv[2:])
    request = Template(control).serve()
    if request is not None:
        run_child(request)


def preload(control: socket.socket, packages: list[str]) -> None:
    """Import the packages, and report how long it took. A missing package is reported and left out."""
    began = time.monotonic()
    gc.disable()  # imports leave a million objects and no garbage: looking for it takes a fifth of their time
    missing = [name for name in packages if not try_import(name)]
    gc.collect()
    gc.freeze()  # the children share the memory pages of what is loaded; a collection would copy them
    gc.enable()
    send(control, {"ready": {"pid": os.getpid(), "seconds": round(time.monotonic() - began, 3), "missing": missing}})


def try_import(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def send(control: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        control.sendall(json.dumps(message).encode() + b"\n")


class Template:
    """The template's loop: one thread that waits for requests and for children that end."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.children: dict[int, int] = {}  # pid of a child -> id of its launch
        self.buffer = b""
        self.wake_read, self.wake_write = socket.socketpair()
        self.wake_write.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # only the socket says when to end

    def serve(self) -> dict[str, Any] | None:
        """Serve requests. Returns None when the socket has closed, and in a child the request it was forked for."""
        while True:
            readable, _, _ = select.select([self.control, self.wake_read], [], [])
            if self.wake_read in readable:
                self.wake_read.recv(LARGEST_READ)
                self.reap()
            if self.control in readable:
                data = self.read()
                if not data:
                    signal.set_wakeup_fd(-1)
                    self.end_children()
                    return None
                request = self.take_requests(data)
                if request is not None:
                    return request

    def read(self) -> bytes:
        try:
            return self.control.recv(LARGEST_READ)
        except ConnectionResetError:
            return b""

    def take_requests(self, data: bytes) -> dict[str, Any] | None:
        self.buffer += data
        while b"\n" in self.buffer:
            line, self.buffer = self.buffer.split(b"\n", 1)
            request: dict[str, Any] = json.loads(line)
            if request["op"] == "signal":
                self.signal_child(request)
            elif self.launch(request):
                return request
        return None

    def launch(self, request: dict[str, Any]) -> bool:
        """Fork a child. Returns True in the child."""
        template = os.getpid()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # libraries' idle threads, which ran no operation
            pid = os.fork()
        if pid == 0:
            self.become_child(template)
            return True
        self.children[pid] = request["id"]
        send(self.control, {"id": request["id"], "pid": pid})
        return False

    def become_child(self, template: int) -> None:
        """Leave the template's session, signals and sockets, and die when the template dies."""
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for held in (self.control, self.wake_read, self.wake_write):
            held.close()
        die_with(template)

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            kill_group(pid, signal.SIGKILL)  # processes that a child left behind end with it, as in a container
            if pid in self.children:
                send(self.control, {"id": self.children.pop(pid), "exit": os.waitstatus_to_exitcode(status)})

    def signal_child(self, request: dict[str, Any]) -> None:
        for pid, launch in self.children.items():
            if launch == request["id"]:
                signal_process(pid, request["signal"], first=request["first"])

    def end_children(self) -> None:
        for pid in self.children:
            kill_group(pid, signal.SIGKILL)


def signal_process(pid: int, number: int, *, first: bool) -> None:
    """Signal a child's whole group, once, or the child alone if it handles the signal."""
    if not first and kill_group(pid, number):
        return
    if not first or has_handler(pid, number):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)  # it was just forked, and may not lead its group yet


def kill_group(pid: int, number: int) -> bool:
    """Signal the process group that a child leads. Returns False if no process of it is left."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def has_handler(pid: int, number: int) -> bool:
    """Return whether a process handles a signal. Only Linux tells; elsewhere every process counts as one that does."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return sys.platform != "linux"
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


def die_with(parent: int) -> None:
    """Be killed when the parent ends. Only Linux has this; elsewhere the closing socket must suffice."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def run_child(request: dict[str, Any]) -> None:
    """Set the request's log, folder, environment and arguments, and run its entry as an interpreter would."""
    redirect_output(request["log"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    renew_random_state()
    entry = request["entry"]
    if "command" in entry:
        os.execvpe(entry["command"], [entry["command"], *request["argv"]], request["env"])  # noqa: S606 - no shell is wanted
    leave(run_to_end(entry, request))


def run_to_end(entry: dict[str, str], request: dict[str, Any]) -> int:
    """Run the entry, print what it does not catch, and return the exit status, as an interpreter does."""
    try:
        run_python(entry, request)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:  # noqa: BLE001 - any exception of the program ends it here
        show_error(error)
        return 1
    return 0


def leave(status: int) -> None:
    """End as an interpreter ends (threads, exit functions, streams), but do not tear down the modules.

    With torch that takes half a second, in which the pages shared with the template would be copied.
    """
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status & 0xFF)


def redirect_output(log: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(output)
    os.close(nothing)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
    sys.stdout, sys.stderr = (open_stream(number) for number in (1, 2))


def open_stream(number: int) -> io.TextIOWrapper:
    """Return a standard stream that writes every line at once, and never fails on a character."""
    binary = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
    return io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def renew_random_state() -> None:
    """Reseed the random generators. Otherwise every child would draw the template's numbers."""
    random.seed()
    tempfile.tempdir = None
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


def show_error(error: BaseException) -> None:
    """Print a traceback without the template's own frames: it begins where the child's program does."""
    own, trace = (__file__, "<frozen runpy>"), error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in own:
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)


def run_python(entry: dict[str, str], request: dict[str, Any]) -> None:
    sys.path[:0] = [*request["paths"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if "script" in entry:
        script = pathlib.Path(request["cwd"], entry["script"])
        sys.argv = [entry["script"], *request["argv"]]
        sys.path.insert(0, str(script.parent))
        runpy.run_path(str(script), run_name="__main__")
    else:
        module, _, function = entry["function"].partition(":")
        sys.argv = [entry["function"], *request["argv"]]
        getattr(importlib.import_module(module), function)()


if __name__ == "__main__":
    main()
