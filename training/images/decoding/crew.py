"""Let processes work through numbered pieces: threads wait for one another where Python holds its lock.

The processes are forked, and touch neither torch nor what threads of their parent might have locked. They die with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import tempfile
import traceback
from collections.abc import Callable
from typing import IO, Any

DIGITS = 4
MOST = 8192  # numbers that a pipe holds at once
PR_SET_PDEATHSIG = 1

Work = Callable[[int], Any]


class Crew:
    """Processes that take the next number from a pipe as soon as they are free, and write down their answers."""

    def __init__(self, pieces: int, members: int, work: Work) -> None:
        """work: returns for the number of a piece what JSON can hold. Call this from the main thread."""
        if pieces > MOST:
            raise ValueError(f"{pieces} pieces are more than {MOST}: make them larger")
        taken, given = os.pipe()
        os.write(given, b"".join(number.to_bytes(DIGITS, "little") for number in range(pieces)))
        self.members: dict[int, IO[str]] = {}
        parent = os.getpid()
        for _ in range(members):
            answers = tempfile.TemporaryFile("w+")  # noqa: SIM115  both processes use it, the parent to the end
            pid = os.fork()
            if pid == 0:
                os.close(given)
                serve(taken, answers, work, parent)
            self.members[pid] = answers
        os.close(taken)
        os.close(given)

    def wait(self) -> dict[int, Any]:
        """Return the answers by number. Those of a process that died are missing."""
        found: dict[int, Any] = {}
        while self.members:
            pid, answers = self.members.popitem()
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            with answers:
                answers.seek(0)
                found.update(json.loads(line) for line in answers if line.endswith("\n"))
        return found

    def dismiss(self) -> None:
        """End the processes; nobody needs their answers."""
        for pid in self.members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait()


def serve(taken: int, answers: IO[str], work: Work, parent: int) -> None:
    """Work in this forked process until no number is left. Never return."""
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with(parent)
        while number := os.read(taken, DIGITS):
            piece = int.from_bytes(number, "little")
            answers.write(json.dumps([piece, work(piece)]) + "\n")
            answers.flush()
        code = 0
    except BaseException:  # noqa: BLE001  the parent does what is missing; here nothing of it may run
        traceback.print_exc()
    finally:
        os._exit(code)


def die_with(parent: int) -> None:
    """Let the system end this process when its parent ends, however it ends."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
