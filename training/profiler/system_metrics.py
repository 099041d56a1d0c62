"""Sample what the machine does while a job trains, into files like those that SageMaker's profiler writes.

Each value is a JSON line in system/incremental/YYYYMMDDHH/MINUTE.NODE.json, where MINUTE is the Unix time of a full
minute: smdebug's LocalSystemMetricsReader and PandasFrame read them. Names and dimensions are those of AWS's own files.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

INTERVAL = 0.5
NODE = "algo-1"
Event = dict[str, Any]


class SystemSampler:
    """A thread that writes what `read` returns, every `interval` seconds, until it is stopped."""

    def __init__(
        self,
        folder: Path,
        read: Callable[[], list[tuple[str, str, str, float]]],
        interval: float = INTERVAL,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.folder, self.read, self.interval, self.now = folder / "system" / "incremental", read, interval, now
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, name="system sampler", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def run(self) -> None:
        self.read()  # Rates are differences: the first reading is only their baseline.
        while not self.ended.wait(self.interval):
            self.sample()

    def sample(self) -> None:
        """Write one reading; a full disk must not end a training."""
        stamp = self.now()
        lines = [json.dumps(make_event(*value, stamp), separators=(",", ":")) + "\n" for value in self.read()]
        try:
            path = place_file(self.folder, stamp)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write("".join(lines))
        except OSError:
            return

    def stop(self) -> None:
        """End the thread, after a last reading."""
        if self.thread.is_alive():
            self.ended.set()
            self.thread.join(5)
            self.sample()


def place_file(folder: Path, stamp: float) -> Path:
    """Return the file for the values of a moment."""
    hour = datetime.fromtimestamp(stamp, UTC).strftime("%Y%m%d%H")
    return folder / hour / f"{int(stamp) // 60 * 60}.{NODE}.json"


def make_event(kind: str, name: str, dimension: str, value: float, stamp: float) -> Event:
    return {
        "Type": kind,
        "Name": name,
        "Dimension": dimension,
        "Value": round(float(value), 2),
        "NodeId": NODE,
        "Timestamp": round(stamp, 6),
    }


def read_events(folder: Path) -> Iterator[Event]:
    """Read back what samplers wrote below a folder, in order, skipping a last line that was cut off."""
    for path in sorted((folder / "system" / "incremental").glob("*/*.json")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


class Machine:
    """Read this machine: CPU by core, memory, disk and network through psutil; GPUs through torch, if it sees any."""

    def __init__(self, psutil: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self.psutil, self.clock = psutil, clock
        self.last: tuple[float, Any, Any] | None = None

    def __call__(self) -> list[tuple[str, str, str, float]]:
        """Return readings as (type, name, dimension, value); rates are those since the previous reading."""
        cores = self.psutil.cpu_times_percent(percpu=True)
        values = [("memory", "MemoryUsedPercent", "", self.psutil.virtual_memory().percent)]
        for number, core in enumerate(cores):
            waiting = getattr(core, "iowait", 0.0)
            values += [
                ("cpu", f"cpu{number}", "CPUUtilization", max(0.0, 100 - core.idle - waiting)),
                ("cpu", f"cpu{number}", "I/OWaitPercentage", waiting),
            ]
        return [*values, *self.read_rates(), *read_gpus()]

    def read_rates(self) -> list[tuple[str, str, str, float]]:
        disk, network = self.psutil.disk_io_counters(), self.psutil.net_io_counters()
        before, self.last = self.last, (self.clock(), disk, network)
        if before is None or disk is None or network is None or before[1] is None:
            return []
        seconds = max(self.last[0] - before[0], 1e-6)
        operations = disk.read_count + disk.write_count - before[1].read_count - before[1].write_count
        return [
            ("i/o", "IOPS", "", operations / seconds),
            ("i/o", "ReadThroughputInBytesPerSecond", "", (disk.read_bytes - before[1].read_bytes) / seconds),
            ("i/o", "WriteThroughputInBytesPerSecond", "", (disk.write_bytes - before[1].write_bytes) / seconds),
            ("network", "ReceiveBytesPerSecond", "Algorithm", (network.bytes_recv - before[2].bytes_recv) / seconds),
            ("network", "TransmitBytesPerSecond", "Algorithm", (network.bytes_sent - before[2].bytes_sent) / seconds),
        ]


def read_gpus() -> list[tuple[str, str, str, float]]:
    """Read utilisation and memory of each GPU; without NVIDIA's library, utilisation is left out."""
    values = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0):
        free, total = torch.cuda.mem_get_info(number)
        values.append(("gpu", f"gpu{number}", "GPUMemoryUtilization", 100 * (1 - free / total)))
        try:
            values.append(("gpu", f"gpu{number}", "GPUUtilization", float(torch.cuda.utilization(number))))
        except Exception:  # noqa: BLE001, S112  torch raises various errors when NVIDIA's library is missing
            continue
    return values
