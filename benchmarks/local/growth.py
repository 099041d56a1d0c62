"""Measure how costs grow: a training's start and pre-flight with 10^3 to 10^5 images, the list and the sweep with runs.

A training's start is what it does before its first step that depends on the images: it reads the zip, decodes every
image, cuts the missing splits and looks for duplicates. The runs have ended, as most of a stage's runs have.
Beside each figure stands its ratio to the one before it: 10 is linear, more is not.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from aws_lambda_powertools import Logger
from PIL import Image

from benchmarks.control.page import index_runs
from benchmarks.results import claim, write_result
from chalicelib.aws.buckets import Bucket
from chalicelib.aws.sagemaker import SageMaker
from chalicelib.datasets.contents import DatasetLimits
from chalicelib.datasets.preflight import inspect_dataset
from chalicelib.pipeline.sweep import sweep
from chalicelib.runs.folder import Runs
from chalicelib.runs.identity import Run
from chalicelib.services import Services, SystemClock
from tests.support.local_cloud import LocalCloud, run_local_cloud

ROOT = Path(__file__).resolve().parents[2]
IMAGES, RUNS = (1_000, 10_000, 100_000), (10, 100, 1_000)
CLASSES, SIDE, TRIES = 20, 32, 5
LINEAR = 13  # ten times as many may take this much longer: 10, and what a busy machine adds
START = """
import json, resource, sys, time
from pathlib import Path
sys.path.insert(0, "training")
from images.data import read_dataset
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
dataset = read_dataset(Path(sys.argv[1]), 32, threads=int(sys.argv[2]), scratch=Path(sys.argv[3]))
seconds = time.perf_counter() - started
counts = [len(each) for each in (dataset.train, dataset.valid, dataset.test)]
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(json.dumps({"seconds": seconds, "mebibytes": grown, "images": sum(counts), "splits": counts}))
"""


def write_dataset(path: Path, images: int) -> None:
    """Write a zip of small images, all different, without splits."""
    dice = random.Random(images)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(images):
            coarse = Image.frombytes("RGB", (4, 4), dice.randbytes(48)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            file = io.BytesIO()
            coarse.save(file, "JPEG", quality=90)
            archive.writestr(f"class-{number % CLASSES:02d}/{number:06d}.jpg", file.getvalue())


def time_start(path: Path, folder: Path) -> dict[str, Any]:
    """Return what a training's start took, in a fresh interpreter."""
    command = [sys.executable, "-c", START, str(path), str(os.cpu_count()), str(folder / "scratch")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(ended.stderr)
    return dict(json.loads(ended.stdout.splitlines()[-1]))


def time_preflight(path: Path, images: int) -> float:
    """Return the seconds of one pre-flight."""
    started = time.perf_counter()
    with path.open("rb") as file:
        report = inspect_dataset(file, DatasetLimits())
    if not report.ok or report.images != images:
        raise SystemExit(f"the dataset was not accepted: {report.problems}")
    return time.perf_counter() - started


def time_calls(call: Callable[[], object]) -> float:
    """Return the median seconds of a call."""

    def once() -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    return statistics.median(once() for _ in range(TRIES))


def upload_zips(cloud: LocalCloud, bucket: str, count: int) -> None:
    """Put a zip for each ended run into a bucket whose events nobody follows."""

    def put(number: int) -> None:
        cloud.s3.put_object(Bucket=bucket, Key=f"datasets/many-{number}.zip", Body=b"a zip")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(count)))


def index_ended(cloud: LocalCloud, bucket: str, count: int) -> None:
    """List an ended run of each zip, begun after its upload: the sweep looks at all of them and finds nothing to do."""
    runs, began = Runs(Bucket(cloud.s3, bucket)), datetime.now(UTC).isoformat()
    unused: dict[str, Any] = {"version": None, "etag": "", "size": 0, "endpoint": "", "code_uri": "", "source": {}}

    def index(number: int) -> None:
        name, run_id = f"many-{number}", f"whippet-local-many-{number:08x}"
        run = Run(run_id, name, bucket, f"datasets/{name}.zip", attempt=1, created_at=began, **unused)
        for status in ("checking", "tuning", "training", "deploying", "deployed"):  # as many keys as a run leaves
            runs.index(run, status, None)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(index, range(count)))


def sweep_once(cloud: LocalCloud, bucket: str) -> None:
    """Sweep as the schedule does."""
    told = SimpleNamespace(
        runs=Runs(Bucket(cloud.s3, bucket)), bucket=Bucket(cloud.s3, bucket), sagemaker=SageMaker(cloud.sagemaker),
        clock=SystemClock(), log=Logger(service="growth"),
    )  # fmt: skip
    if failures := sweep(cast(Services, told)):
        raise SystemExit(f"the sweep failed: {failures}")


def measure_runs(cloud: LocalCloud, runs: tuple[int, ...]) -> tuple[list[float], list[float]]:
    """Return the seconds of `GET /runs` and of a sweep, with each number of runs."""
    listed, swept, bucket = [], [], "growth"
    cloud.s3.create_bucket(Bucket=bucket)
    cloud.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for count in runs:
        index_runs(cloud, count)
        upload_zips(cloud, bucket, count)
        index_ended(cloud, bucket, count)
        listed.append(time_calls(lambda: cloud.api.get("/runs").raise_for_status()))
        swept.append(time_calls(lambda: sweep_once(cloud, bucket)))
    return listed, swept


def state_growth(what: str, counts: tuple[int, ...], of: str, seconds: list[float], **details: Any) -> list[Any]:
    """Return the claim that the last step is at most linear, and a row for each count."""
    rows = [claim(f"{what}, {count:,} {of}", each, "s") for count, each in zip(counts, seconds, strict=True)]
    last = claim(f"{what}: {counts[-1]:,} over {counts[-2]:,} {of}", seconds[-1] / seconds[-2], "x", at_most=LINEAR)
    return [last | details, *rows]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="up to 10,000 images and 100 runs, no result file")
    quick = parser.parse_args(None if __name__ == "__main__" else []).quick
    images, runs = (IMAGES[:2], RUNS[:2]) if quick else (IMAGES, RUNS)
    with tempfile.TemporaryDirectory() as name:
        folder, starts, looks = Path(name), list[dict[str, Any]](), list[float]()
        for count in images:
            path = folder / f"{count}.zip"
            write_dataset(path, count)
            starts.append(time_start(path, folder))
            looks.append(time_calls(lambda path=path, count=count: time_preflight(path, count)))
            path.unlink()
            print(count, starts[-1], looks[-1], flush=True)
        with run_local_cloud(folder / "cloud") as cloud:
            listed, swept = measure_runs(cloud, runs)
    claims = [
        *state_growth("a training's start", images, "images", [each["seconds"] for each in starts], starts=starts),
        *state_growth("pre-flight", images, "images", looks),
        *state_growth("the list of runs", runs, "runs", listed),
        *state_growth("a sweep", runs, "ended runs", swept),
    ]
    if quick:
        print(json.dumps(claims, indent=1))
        return
    write_result("growth", claims, packages=["torch", "pillow", "boto3"])


if __name__ == "__main__":
    main()
