"""Measure what profiling, debugger and report add to whole jobs: one of more than a minute, and a shorter one.

Each job runs as a process with and without them, in turns; nothing is installed. What else only the final training does
(comparing candidates, the baseline, labels, unknown images) is measured by the times of its log lines, and taken off.
What the profile gains counts too: it may have made the job faster.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import claim, spread, write_result
from benchmarks.training.gpu import ROOT, describe_job
from benchmarks.training.photos import write_photos

REPEATS = 3
LONG: dict[str, Any] = {"image_size": 128, "epochs": 8, "batch_size": 16}
SHORT: dict[str, Any] = {"image_size": 64, "epochs": 3, "batch_size": 16}
COUNTS = {"train": 240, "valid": 40, "test": 40}
OWN = ("execution plan", "debugger", "profiler", "report", "gallery")  # `report` holds the maps
OTHERS = ("baseline", "labels", "unknown images")
PART = re.compile(r"^([a-z ]+): (\d+\.\d) s$")
Lines = Sequence[tuple[float, str]]


def run(folder: Path, chosen: dict[str, Any], *, profile: bool) -> tuple[float, Lines]:
    """Run a job; return its seconds, and the lines of its log with the seconds at which they came."""
    values = {**chosen, "fine_tune": "all", "pretrained": "none", "patience": 0, "profile": profile}
    with tempfile.TemporaryDirectory() as base:
        environment = describe_job(base, folder, values, gpus=0) | {"WHIPPET_INSTALL": "0"}
        began, lines = time.perf_counter(), list[tuple[float, str]]()
        command = [sys.executable, "-u", str(ROOT / "training" / "train.py")]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as job:
            assert job.stdout is not None
            lines.extend((time.perf_counter() - began, line.strip()) for line in job.stdout)
        if job.returncode:
            raise SystemExit("\n".join(line for _, line in lines[-40:]))
        return time.perf_counter() - began, lines


def read_parts(lines: Lines) -> dict[str, float]:
    """Return the seconds of each part of the inspection, and of the comparison that ends where the baseline begins."""
    found = {match[1]: float(match[2]) for _, line in lines if (match := PART.match(line))}
    shipped = max(at for at, line in lines if line.startswith("best epoch="))
    ended = next(at for at, line in lines if line.startswith("baseline: "))
    return found | {"comparison": max(0.0, ended - found["baseline"] - shipped)}


def measure(folder: Path, chosen: dict[str, Any]) -> dict[str, Any]:
    """Run a job with and without, once; return the seconds of both, and what was added."""
    plain, _ = run(folder, chosen, profile=False)
    watched, lines = run(folder, chosen, profile=True)
    parts = read_parts(lines)
    apart = parts["comparison"] + sum(parts.get(name, 0.0) for name in OTHERS)
    own = sum(parts.get(name, 0.0) for name in OWN)
    return {"plain": plain, "watched": watched, "apart": apart, "own": own, "added": watched - apart - plain} | {
        "parts": parts
    }


def describe(runs: list[dict[str, Any]]) -> dict[str, Any]:
    figures = {f"{name}_s": spread(run[name] for run in runs) for name in ("plain", "watched", "apart", "own", "added")}
    return figures | {"parts_s": runs[-1]["parts"], "load": os.getloadavg()[0]}


def state_claims(long: list[dict[str, Any]], short: list[dict[str, Any]]) -> list[dict[str, Any]]:
    share = statistics.median(100 * run["added"] / run["plain"] for run in long)
    added = statistics.median(run["added"] for run in short)
    whole = {name: statistics.median(run["plain"] for run in runs) for name, runs in (("long", long), ("short", short))}
    what = "profiling, debugger and report add to a job of"
    return [
        claim(f"{what} {whole['long']:.0f} s", share, "%", at_most=5, **describe(long)),
        claim(f"{what} {whole['short']:.0f} s", added, "s", at_most=3, **describe(short)),
        claim("the same of the long job by its parts' own times, without the steps", *by_parts(long), "%"),
        claim("the same of the short job by its parts' own times, without the steps", *by_parts(short, 1), "s"),
    ]


def by_parts(runs: list[dict[str, Any]], unit: float = 0) -> tuple[float]:
    """Return the median of what the parts say of themselves: in seconds, or in per cent of the job."""
    return (statistics.median(run["own"] if unit else 100 * run["own"] / run["plain"] for run in runs),)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="the short job once, no result file")
    quick = parser.parse_args(None if __name__ == "__main__" else []).quick
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "dataset.zip", COUNTS, (500, 375))
        if quick:
            print(json.dumps(measure(folder, SHORT), indent=1))
            return
        short = [measure(folder, SHORT) for _ in range(REPEATS)]
        long = [measure(folder, LONG) for _ in range(REPEATS)]
    write_result("overhead", state_claims(long, short), packages=["torch", "torchvision", "smdebug", "matplotlib"])


if __name__ == "__main__":
    main()
