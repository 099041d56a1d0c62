"""Measure `make demo` as a newcomer runs it, once installed: its time, its accuracy, and its idle share.

The demo runs against a cloud that stays up afterwards, so that its jobs can be asked when they ran. The cloud's own
start counts as part of the demo's time.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.results import claim, write_result
from tests.support.local_cloud import LocalCloud, run_local_cloud

BEFORE_AND_AFTER = ("test accuracy", "step", "images a second")
Span = tuple[float, float]


def run_demo(cloud: LocalCloud) -> tuple[str, Span]:
    """Run the demo on a running cloud. Returns what it printed, and when it began and ended."""
    environment = {**os.environ, "LOCALCLOUD_HOME": str(cloud.home)}
    environment |= {"AWS_PORT": str(cloud.aws_port), "PORT": str(cloud.port)}
    start = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "localcloud", "demo"], env=environment, capture_output=True, text=True, timeout=900
    )
    if done.returncode:
        raise SystemExit(f"the demo failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout, (start, time.time())


def find_work(cloud: LocalCloud) -> list[Span]:
    """List the spans in which a training job ran, or an endpoint was in service (to the end)."""
    spans = []
    for summary in cloud.sagemaker.list_training_jobs(MaxResults=100)["TrainingJobSummaries"]:
        job = cloud.sagemaker.describe_training_job(TrainingJobName=summary["TrainingJobName"])
        spans.append((to_seconds(job["TrainingStartTime"]), to_seconds(job["TrainingEndTime"])))
    for endpoint in cloud.sagemaker.list_endpoints()["Endpoints"]:
        spans.append((to_seconds(endpoint["LastModifiedTime"]), float("inf")))
    return spans


def to_seconds(moment: datetime) -> float:
    return moment.timestamp()


def measure_idle(work: list[Span], whole: Span) -> float:
    """Return the seconds of the whole span that no span of work covers."""
    idle, reached = 0.0, whole[0]
    for start, end in sorted(work):
        idle += max(0.0, min(start, whole[1]) - reached)
        reached = max(reached, min(end, whole[1]))
    return idle + whole[1] - reached


def read_run(cloud: LocalCloud) -> dict[str, Any]:
    """Read tuning.json and result.json of the only run."""
    (run,) = cloud.list_runs("digits")
    files = {}
    for name in ("tuning", "result"):
        body = cloud.s3.get_object(Bucket=cloud.bucket, Key=f"runs/{run['run_id']}/{name}.json")["Body"].read()
        files[name] = json.loads(body)
    return files


def count_reports(printed: str) -> int:
    """Count the existing reports whose paths the demo printed."""
    paths = re.findall(r"^The report: (.*\.html)$", printed, re.MULTILINE)
    return sum(Path(path).is_file() for path in paths)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, run_local_cloud(Path(folder) / "state") as cloud:
        start_seconds = cloud.start_seconds
        printed, whole = run_demo(cloud)
        idle = measure_idle(find_work(cloud), whole)
        run, reports = read_run(cloud), count_reports(printed)
    seconds = whole[1] - whole[0] + start_seconds
    trials = run["tuning"]["trials"]
    tuned = {name for trial in trials for name in trial["hyperparameters"]}
    right = len(re.findall(r"✓", printed))
    rows = [row for row in BEFORE_AND_AFTER if re.search(rf"^{row} .*\d", printed, re.MULTILINE)]
    write_result(
        "demo",
        [
            claim("make demo, once installed", seconds, "s", at_most=120),
            claim("trials", len(trials), "trials", at_least=4),
            claim("hyperparameters tuned", len(tuned), "hyperparameters", at_least=3, names=sorted(tuned)),
            claim("test accuracy", run["result"]["metrics"]["test"]["accuracy"], "share", at_least=0.98),
            claim("right answers of the route to three test images", right, "answers", at_least=3),
            claim("rows of its table of before and after", len(rows), "rows", at_least=3, names=rows),
            claim("reports whose path it prints", reports, "files", at_least=1),
            claim("time in which nothing trains or serves", idle / (whole[1] - whole[0]), "share", at_most=0.10),
        ],
        packages=["torch", "torchvision", "optuna", "moto"],
    )


if __name__ == "__main__":
    main()
