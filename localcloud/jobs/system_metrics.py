"""Sample the machine while a job runs, and write the files that SageMaker's profiler writes to S3.

They hold one JSON line per value, in system/incremental/YYYYMMDDHH/MINUTE.NODE.json. MINUTE is the Unix time of a full
minute. smdebug's readers read them. A minute's file is written when the minute is over, the last one at the end. All
jobs share this machine, so each job's files describe the load of all jobs.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import psutil

from localcloud.common.clock import Clock

NODE = "algo-1"
Value = tuple[str, str, str, float]  # type, name, dimension, value


class SystemSampler:
    """A thread that samples every `milliseconds` from `start` to `stop`, and writes below `folder`."""

    def __init__(self, folder: Path, milliseconds: int, clock: Clock) -> None:
        self._folder, self._interval, self._clock = folder / "system" / "incremental", milliseconds / 1000, clock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system-sampler", daemon=True)
        self._minute = 0
        self._lines: list[str] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample, and write what is not written yet."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        machine = Machine()
        machine.read(self._clock.now())  # rates are differences, so the first reading yields none
        while not self._ended.wait(self._interval):
            self._sample(machine)
        self._sample(machine)
        self._write()

    def _sample(self, machine: Machine) -> None:
        now = self._clock.now()
        minute = int(now.timestamp()) // 60 * 60
        if minute != self._minute:
            self._write()
            self._minute = minute
        self._lines += [format_event(*value, now.timestamp()) for value in machine.read(now)]

    def _write(self) -> None:
        """Write the minute's file and rename it into place, so that no partial file is uploaded."""
        if not self._lines:
            return
        path = (
            self._folder
            / datetime.fromtimestamp(self._minute, UTC).strftime("%Y%m%d%H")
            / f"{self._minute}.{NODE}.json"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp")
        partial.write_text("".join(self._lines), encoding="utf-8")
        partial.replace(path)
        self._lines = []


def format_event(kind: str, name: str, dimension: str, value: float, stamp: float) -> str:
    """Return one line of the file."""
    named = {"Type": kind, "Name": name, "Dimension": dimension, "Value": round(float(value), 2)}
    return json.dumps(named | {"NodeId": NODE, "Timestamp": round(stamp, 6)}, separators=(",", ":")) + "\n"


class Machine:
    """Reads this machine. Only one thread may use it: psutil keeps each thread's last reading of the cores."""

    def __init__(self) -> None:
        self._last: tuple[datetime, list[float]] | None = None

    def read(self, now: datetime) -> list[Value]:
        """Return values of cores, memory, disk and network. Rates and shares cover the time since the last reading."""
        values: list[Value] = [("memory", "MemoryUsedPercent", "", psutil.virtual_memory().percent)]
        for number, core in enumerate(psutil.cpu_times_percent(percpu=True)):
            waiting = getattr(core, "iowait", 0.0)
            used = max(0.0, 100 - core.idle - waiting)
            values.append(("cpu", f"cpu{number}", "CPUUtilization", used))
            values.append(("cpu", f"cpu{number}", "I/OWaitPercentage", waiting))
        return [*values, *self._read_rates(now)]

    def _read_rates(self, now: datetime) -> Iterable[Value]:
        disk, network = psutil.disk_io_counters(), psutil.net_io_counters()
        if disk is None or network is None:  # a container may hide them
            return
        operations = disk.read_count + disk.write_count
        counts = [operations, disk.read_bytes, disk.write_bytes, network.bytes_recv, network.bytes_sent]
        before, self._last = self._last, (now, counts)
        if before is None:
            return
        seconds = max((now - before[0]).total_seconds(), 1e-6)
        names = (
            ("i/o", "IOPS", ""),
            ("i/o", "ReadThroughputInBytesPerSecond", ""),
            ("i/o", "WriteThroughputInBytesPerSecond", ""),
            ("network", "ReceiveBytesPerSecond", "Algorithm"),
            ("network", "TransmitBytesPerSecond", "Algorithm"),
        )
        for name, count, earlier in zip(names, counts, before[1], strict=True):
            yield (*name, (count - earlier) / seconds)
