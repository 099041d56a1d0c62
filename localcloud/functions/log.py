"""Write what the functions print to one file, and to CloudWatch Logs in Lambda's log groups.

The file is written at once. One thread feeds the log service once a second, so that no function waits for it and its
calls, which this same process answers, stay few. moto holds log groups in memory, so only the file survives a restart,
and of a function that is called for hours the log service keeps the newest lines alone.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from localcloud.common.logs import LogStream

GATHER_SECONDS = 1.0
STREAM_LINES = 5_000  # of a stream; the one before it is kept too


class FunctionLog:
    """`log(function, line)` for `Functions`. `client` is a boto3 client of CloudWatch Logs."""

    def __init__(self, path: Path, client: Any) -> None:
        self._file = path.open("a", buffering=1)
        self._client = client
        self._streams: dict[str, Streams] = {}
        self._lines: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._feed, daemon=True, name="function-log")
        self._thread.start()

    def __call__(self, function: str, line: str) -> None:
        now = time.time()
        with suppress(OSError):  # a full disk stops no function
            self._file.write(f"{format_second(int(now))}.{int(now % 1 * 1000):03d}Z {function} {line}\n")
        self._lines.put((function, line))

    def close(self) -> None:
        self._closed.set()
        self._lines.put(None)
        self._thread.join(2)

    def _feed(self) -> None:
        while (first := self._lines.get()) is not None:
            self._closed.wait(GATHER_SECONDS)
            batches = defaultdict(list, {first[0]: [first[1]]})
            while not self._lines.empty() and (following := self._lines.get()) is not None:
                batches[following[0]].append(following[1])
            for function, lines in batches.items():
                if function not in self._streams:
                    self._streams[function] = Streams(self._client, f"/aws/lambda/{function}")
                self._streams[function].write(lines, datetime.now(UTC))


@lru_cache(2)
def format_second(second: int) -> str:
    """Return a second of the clock in UTC, which all lines of it share."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


class Streams:
    """The newest streams of one function's log group."""

    def __init__(self, client: Any, group: str) -> None:
        self._client, self._group = client, group
        self._kept: list[LogStream] = []
        self._number, self._lines = 0, STREAM_LINES

    def write(self, lines: list[str], now: datetime) -> None:
        """Append the lines, to a new stream where the present one is full."""
        if self._lines >= STREAM_LINES:
            self._begin(now)
        self._lines += len(lines)
        self._kept[-1].write(lines, now)

    def _begin(self, now: datetime) -> None:
        self._number, self._lines = self._number + 1, 0
        name = f"{now:%Y/%m/%d}/[$LATEST]local-{self._number}"
        self._kept.append(LogStream(self._client, self._group, name))
        if len(self._kept) > 2:
            self._kept.pop(0).delete()
