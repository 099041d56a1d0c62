"""Test what the demo says of before and after, and where it puts the report."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from rich.console import Console

from localcloud.cli.demo import User, tell_report
from localcloud.cli.outcome import fetch_report, list_gains, make_reader, read_document

UNTUNED = {"test": {"accuracy": 0.9, "macro_f1": 0.89}}
TUNED = {"accuracy": 0.97, "macro_precision": 0.97, "macro_f1": 0.96}
PLAN = {
    "verdict": "Decoding ahead made it [twice] as fast.",
    "before": {"phases": {"data": {"mean_ms": 60}, "forward": {"mean_ms": 40}}, "images_per_second": 320},
    "after": {"phases": {"data": {"mean_ms": 10}, "forward": {"mean_ms": 40}}, "images_per_second": 640},
}
RUN = {"run_id": "r", "training": {"name": "r-train"}, "metrics": {"test": TUNED}}


class Bucket:
    """An S3 that holds the given objects."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        if Key not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        return {"Body": io.BytesIO(self.objects[Key])}


def test_quality_and_speed_stand_side_by_side() -> None:
    """What was measured both before and after is compared; the rest is left out."""
    assert list_gains(UNTUNED, TUNED, PLAN) == [
        ("test accuracy", "90.0%", "97.0%", "+7.0 points"),
        ("test macro F1", "89.0%", "96.0%", "+7.0 points"),
        ("step", "100.0 ms", "50.0 ms", "-50%"),
        ("images a second", "320", "640", "+100%"),
    ]


@pytest.mark.parametrize("plan", [{}, {"before": None, "after": {}}, {"before": {"phases": {"data": None}}}])
def test_what_was_not_measured_is_not_told(plan: dict[str, Any]) -> None:
    """A training without a profiler, or without a baseline, has no rows for it."""
    assert list_gains({}, TUNED, plan) == []


def test_the_demo_tells_the_table_and_the_reports_path(tmp_path: Path) -> None:
    """The report is copied beside the cloud's state, where a browser can open it."""
    files = {"jobs/r-train/baseline.json": UNTUNED, "jobs/r-train/execution_plan.json": PLAN}
    objects = {f"runs/r/{name}": json.dumps(content).encode() for name, content in files.items()}
    user = User(Bucket(objects | {"runs/r/report.html": b"<h1>"}), None, "b")  # type: ignore[arg-type]
    printed = io.StringIO()
    tell_report(user, RUN, tmp_path / "reports" / "r.html", Console(file=printed, width=100))
    assert "+7.0 points" in printed.getvalue()
    assert "[twice]" in printed.getvalue()
    assert f"The report: {tmp_path}/reports/r.html" in printed.getvalue().replace("\n", "")
    assert (tmp_path / "reports" / "r.html").read_bytes() == b"<h1>"


def test_a_report_that_never_comes_is_not_waited_for_long(tmp_path: Path) -> None:
    """Without a report, the demo goes on and says so."""
    assert fetch_report(make_reader(Bucket({}), "b", "r"), tmp_path / "r.html", seconds=0) is None


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
def test_a_broken_file_tells_nothing(body: bytes) -> None:
    """A broken file counts as missing."""
    assert read_document(make_reader(Bucket({"runs/r/x.json": body}), "b", "r"), "x.json") == {}
