"""Read and tabulate how the profiled training did, before and after, for the end of the demo.

"Before" is the baseline's quality and the first probe's speed. Both are files in the training's folder; what
is missing is left out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from rich.table import Table

REPORT_SECONDS = 30
MEASURES = {
    "accuracy": "test accuracy",
    "macro_precision": "test macro precision",
    "macro_recall": "test macro recall",
    "macro_f1": "test macro F1",
}
Read = Callable[[str], bytes | None]
Row = tuple[str, str, str, str]


def make_reader(s3: Any, bucket: str, run_id: str) -> Read:
    """Return a function that reads a file of the run's folder, or gives None where the file does not exist."""

    def read(name: str) -> bytes | None:
        try:
            body: bytes = s3.get_object(Bucket=bucket, Key=f"runs/{run_id}/{name}")["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise
        return body

    return read


def read_document(read: Read, name: str) -> dict[str, Any]:
    """Return a JSON file of the run's folder, or an empty object where it is missing or broken."""
    try:
        document = json.loads(read(name) or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def list_gains(baseline: Mapping[str, Any], test: Mapping[str, Any], plan: Mapping[str, Any]) -> list[Row]:
    """List rows of (what, before, after, change): the final model against the baseline, and a step before and after."""
    first = baseline.get("test") or {}
    rows: list[Row] = [
        (title, f"{first[name]:.1%}", f"{test[name]:.1%}", f"{100 * (test[name] - first[name]):+.1f} points")
        for name, title in MEASURES.items()
        if name in first and name in test
    ]
    before, after = (plan.get(side) or {} for side in ("before", "after"))
    steps = sum_phases(before), sum_phases(after)
    if all(steps):
        rows.append(("step", f"{steps[0]:.1f} ms", f"{steps[1]:.1f} ms", f"{steps[1] / steps[0] - 1:+.0%}"))
    rates = [float(side.get("images_per_second") or 0) for side in (before, after)]
    if all(rates):
        rows.append(("images a second", f"{rates[0]:.0f}", f"{rates[1]:.0f}", f"{rates[1] / rates[0] - 1:+.0%}"))
    return rows


def sum_phases(side: Mapping[str, Any]) -> float:
    """Return the milliseconds of a mean step, whether its phases are given as numbers or as statistics."""
    values = (
        each.get("mean_ms") if isinstance(each, Mapping) else each for each in (side.get("phases") or {}).values()
    )
    return sum(float(value) for value in values if isinstance(value, int | float))


def build_table(rows: list[Row]) -> Table:
    """Build a table of the rows; "before" is the baseline and the first probe."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("", "before", "after", "change"):
        table.add_column(title, justify="right" if title else "left")
    for row in rows:
        table.add_row(*row)
    return table


def fetch_report(read: Read, target: Path, seconds: float = REPORT_SECONDS) -> Path | None:
    """Copy the run's report to a file, after waiting for it briefly: it is written right after the run's end."""
    deadline = time.monotonic() + seconds
    while (body := read("report.html")) is None:
        if time.monotonic() > deadline:
            return None
        time.sleep(0.2)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(body)
    return target
