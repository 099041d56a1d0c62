"""Measure what profiling, debugger and report add to whole jobs: one of more than a minute, and a shorter one.

Each job runs as a process with and without them, in turns; nothing is installed. What else only the final training does
after the model has been shipped and before the report (comparing candidates, labels, unknown images) is taken off; by
its default hyperparameters a job is its own baseline, and trains no other. What the profile gains counts too: it may
have made the job faster.

A job has one thread, so that the processor's seconds that it takes are its seconds on a machine of its own. They are
what is judged; the seconds by the clock stand beside them. Other processes, which share a core and its caches, shift
them by up to 4 %, nearly as much as is measured, so that the machine must be quiet.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.results import claim, spread, write_result
from benchmarks.training.gpu import ROOT, describe_job
from benchmarks.training.photos import write_photos

REPEATS = 3
LONG: dict[str, Any] = {"image_size": 128, "epochs": 16}
SHORT: dict[str, Any] = {"image_size": 64, "epochs": 3}
COUNTS = {"train": 320, "valid": 40, "test": 40}
OWN = ("execution plan", "debugger", "profiler", "report", "gallery")  # `report` holds the maps
SHIPPED, CLOSED = "best epoch=", "unknown images: "  # how the lines begin between which the other things are done
PART = re.compile(r"^([a-z ]+): (\d+\.\d) s$")
ALONE = {"WHIPPET_INSTALL": "0", "SM_NUM_CPUS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Moment:
    """What a job had taken when a line of its log came: seconds by the clock, and of the processor."""

    clock: float
    processor: float
    line: str = ""

    def __sub__(self, other: Moment) -> Moment:
        return Moment(self.clock - other.clock, self.processor - other.processor)


def run(folder: Path, chosen: dict[str, Any], *, profile: bool) -> list[Moment]:
    """Run a job; return the lines of its log, and last its end."""
    values = {**chosen, "fine_tune": "all", "pretrained": "none", "patience": 0, "profile": profile}
    with tempfile.TemporaryDirectory() as base:
        environment = describe_job(base, folder, values, gpus=0) | ALONE
        began, before, lines = time.perf_counter(), count_processor(), list[Moment]()
        command = [sys.executable, "-u", str(ROOT / "training" / "train.py")]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as job:
            assert job.stdout is not None
            own = psutil.Process(job.pid)
            lines.extend(Moment(time.perf_counter() - began, read_processor(own), line.strip()) for line in job.stdout)
        if job.returncode:
            raise SystemExit("\n".join(each.line for each in lines[-40:]))
        return [*lines, Moment(time.perf_counter() - began, count_processor() - before)]


def read_processor(process: psutil.Process) -> float:
    """Return the processor seconds that a process has taken; of one that has ended, none."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def count_processor() -> float:
    """Return the processor seconds of the processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def find_last(lines: Sequence[Moment], beginning: str) -> Moment:
    return [each for each in lines if each.line.startswith(beginning)][-1]


def measure(folder: Path, chosen: dict[str, Any]) -> dict[str, Any]:
    """Run a job with and without, once; return what both took, and what was added."""
    plain, watched = (run(folder, chosen, profile=profile) for profile in (False, True))
    apart = find_last(watched, CLOSED) - find_last(watched, SHIPPED)
    added = watched[-1] - plain[-1] - apart
    taken = {"plain": plain[-1], "watched": watched[-1], "apart": apart, "added": added}
    parts = {match[1]: float(match[2]) for each in watched if (match := PART.match(each.line))}
    found: dict[str, Any] = {f"{name}_s": each.processor for name, each in taken.items()}
    found |= {f"{name}_clock_s": each.clock for name, each in taken.items()}
    return found | {"parts_clock_s": {name: parts[name] for name in OWN if name in parts}}


def describe(runs: list[dict[str, Any]]) -> dict[str, Any]:
    figures = {name: spread(run[name] for run in runs) for name in runs[0] if name != "parts_clock_s"}
    return figures | {"parts_clock_s": runs[-1]["parts_clock_s"], "load": os.getloadavg()[0]}


def state_claims(long: list[dict[str, Any]], short: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the claims on both jobs, and the same by the clock."""
    told = {
        name: statistics.median(run["plain_s"] for run in runs) for name, runs in (("long", long), ("short", short))
    }
    what = "profiling, debugger and report add to a job of"
    share, added, clock = f"{what} {told['long']:.0f} s", f"{what} {told['short']:.0f} s", "the same by the clock"
    return [
        claim(share, find_share(long, ""), "%", at_most=5, **describe(long)),
        claim(f"{clock}, the long job", find_share(long, "_clock"), "%"),
        claim(added, statistics.median(run["added_s"] for run in short), "s", at_most=3, **describe(short)),
        claim(f"{clock}, the short job", statistics.median(run["added_clock_s"] for run in short), "s"),
    ]


def find_share(runs: list[dict[str, Any]], by: str) -> float:
    return statistics.median(100 * run[f"added{by}_s"] / run[f"plain{by}_s"] for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="the short job once, no result file")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="how often each job runs with and without")
    told = parser.parse_args(None if __name__ == "__main__" else [])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "dataset.zip", COUNTS, (500, 375))
        if told.quick:
            print(json.dumps(measure(folder, SHORT), indent=1))
            return
        short = [measure(folder, SHORT) for _ in range(told.repeats)]
        long = [measure(folder, LONG) for _ in range(told.repeats)]
    claims = [*state_claims(long, short), claim("repeats", told.repeats, "turns")]
    write_result("overhead", claims, packages=["torch", "torchvision", "smdebug", "matplotlib"])


if __name__ == "__main__":
    main()
