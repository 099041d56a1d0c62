"""Make every write to a file fail for a while, as on a full disk."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def fill_disk(pid: int | None = None) -> Iterator[None]:
    """Let a process (this one by default) write to no file: each write raises, as far as the program can tell alike."""
    pid = os.getpid() if pid is None else pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
