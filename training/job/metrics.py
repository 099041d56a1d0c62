"""Report a running job's metrics: in lines of its log, where SageMaker reads them, and in metrics.jsonl.

Each line is one string in one write: AWS's toolkit splits lines that are printed in parts, and metric regexes then
miss them.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# A second, and what a line may take on its way to the service.
GAP_SECONDS = 1.1
Counts = Mapping[str, Mapping[str, int]]


def log(text: str) -> None:
    """Write one line to the job's log and flush it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def describe_epoch(record: Mapping[str, Any], counts: Counts, *, judged: bool = True) -> str:
    """Format an epoch's record and the counts of its splits as the line that metric definitions match.

    judged: whether the line holds the metrics of the validation split, and so the objective.
    """
    splits = ("train", "valid") if judged else ("train",)
    parts = [f"epoch={record['epoch']}", *describe_splits({name: record[name] for name in splits}, counts)]
    parts += [f"seconds={record['seconds']:.2f}", f"images_per_second={record['images_per_second']:.1f}"]
    return " ".join(parts)


def describe_splits(values: Mapping[str, Mapping[str, float]], counts: Counts) -> list[str]:
    """Format the metrics of several splits, with what is counted of them."""
    names = dict.fromkeys([*values, *counts])
    return [part for name in names for part in describe(name, {**values.get(name, {}), **counts.get(name, {})})]


def describe(split: str, values: Mapping[str, float]) -> list[str]:
    """Format metrics as SPLIT:NAME=VALUE, in digits that the metric regexes match."""
    return [f"{split}:{name}={value if isinstance(value, int) else f'{value:.6f}'}" for name, value in values.items()]


class ObjectiveLines:
    """Lines of the log that hold the objective, kept at least GAP_SECONDS apart.

    SageMaker's metrics have times in whole seconds: of two values of the same second it may take either, or their mean.
    The final line must not be missing, so it waits for the rest of the gap. Where that would be all that a short
    training waits for, its epochs are logged without the objective.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.clock, self.sleep = clock, sleep
        self.told = self.last = -math.inf  # when any line was logged, and when one with the objective was

    def add(self, line: str, brief: str, left: float) -> None:
        """Log an epoch, unless the line before it is too recent.

        brief: the line without the objective, logged where the final line would have to wait for the whole one.
        left: the seconds that the remaining epochs will take, as far as is known.
        """
        if self.clock() < self.told + GAP_SECONDS:
            return
        if left >= GAP_SECONDS:
            self.write(line)
        else:
            log(brief)
        self.told = self.clock()

    def add_final(self, line: str) -> None:
        """Log a line that must not be missing; first wait for the rest of the gap."""
        missing = self.find_missing()
        if missing > 0:
            self.sleep(missing)
        self.write(line)

    def find_missing(self) -> float:
        """Return the seconds that are left of the gap."""
        return self.last + GAP_SECONDS - self.clock()

    def write(self, line: str) -> None:
        log(line)
        self.last = self.clock()


class MetricsFile:
    """metrics.jsonl: one line at the start, one per epoch, one at the end. Readers may follow it as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one record in a single write."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def begin(self, start: Mapping[str, Any], epochs: int) -> None:
        """Start the file. A resumed job keeps its records of the first `epochs` epochs, after which it goes on."""
        kept = [record for record in self.read() if record.get("epoch", epochs + 1) <= epochs]
        lines = [json.dumps(record) + "\n" for record in ({"start": start}, *kept)]
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(lines), encoding="utf-8")
        partial.replace(self.path)

    def read(self) -> list[dict[str, Any]]:
        """Read the records, skipping a last line that was cut off."""
        records = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return records
