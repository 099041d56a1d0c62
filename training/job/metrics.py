"""Report a running job's metrics: in lines of its log, where SageMaker reads them, and in metrics.jsonl.

Each line is one string in one write: AWS's toolkit splits lines that are printed in parts, and metric regexes then
miss them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def log(text: str) -> None:
    """Write one line to the job's log and flush it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def describe_epoch(record: Mapping[str, Any]) -> str:
    """Format an epoch's record as the line that metric definitions match."""
    parts = [f"epoch={record['epoch']}", *describe("train", record["train"]), *describe("valid", record["valid"])]
    parts += [f"seconds={record['seconds']:.2f}", f"images_per_second={record['images_per_second']:.1f}"]
    return " ".join(parts)


def describe(split: str, values: Mapping[str, float]) -> list[str]:
    """Format metrics as SPLIT:NAME=VALUE, in digits that the metric regexes match."""
    return [f"{split}:{name}={value:.6f}" for name, value in values.items()]


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
