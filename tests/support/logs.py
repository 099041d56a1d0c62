"""Print what a local cloud, its functions and its jobs log while a test runs: `make test ONLY=... LOGS=1`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PATTERNS = ("*.log", "jobs/*/log.txt")
EVERY_SECONDS = 0.2


class LogReader:
    """The log files below a cloud's state folder. Files may appear later, and grow."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._read: dict[Path, int] = {}

    def read_new_lines(self) -> Iterator[str]:
        """Yield each whole line once, with the file that it stands in."""
        for path in sorted(path for pattern in PATTERNS for path in self._home.glob(pattern)):
            name = path.parent.name if path.name == "log.txt" else path.stem
            for line in self._read_on(path):
                yield f"{name} | {line}"

    def _read_on(self, path: Path) -> list[str]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            whole, end, _ = file.read().rpartition(b"\n")
        self._read[path] = self._read.get(path, 0) + len(whole + end)
        return whole.decode(errors="replace").splitlines()


@contextmanager
def follow_logs(home: Path, say: Callable[[str], object]) -> Iterator[None]:
    """Pass every line that is logged below `home` to `say`, from a thread, until the block ends."""
    reader, ended = LogReader(home), threading.Event()

    def follow() -> None:
        while not ended.wait(EVERY_SECONDS):
            say_new_lines()
        say_new_lines()

    def say_new_lines() -> None:
        for line in reader.read_new_lines():
            say(line)

    thread = threading.Thread(target=follow, daemon=True, name="logs")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
