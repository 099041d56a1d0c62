"""Profile a training: sample the machine from the side, time each step by phase, and record a few steps' operators.

It writes into the job's folder: profile/system/ (SageMaker's format), profile/timeline.json, profile/operators.json,
profile/trace.json.gz (a Chrome trace, which Perfetto opens) and profiler-reports/RULE.json. It is registered only in
the profiled training, as its first hook, so that the time of the other hooks is attributed to them.
"""

from __future__ import annotations

import gzip
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from images.streaming import ImageStream
from job.artifact import write_json
from job.metrics import log
from learning.engine import Hook, Learner
from learning.preparation import Course, Setup

from profiler.rules import Recording, write_reports
from profiler.system_metrics import INTERVAL, Machine, SystemSampler, read_events
from profiler.timeline import Timeline, make_timeline

# The steps that torch.profiler records: late enough that one-time work is done, and few, since it slows them down.
WINDOW = range(4, 6)
OPERATORS = 20
TRACE_LEVEL = 6


def make_profiler(
    job_folder: Path, setup: Setup, course: Course, *, begun: float, interval: float = INTERVAL
) -> Hook | None:
    """Return the profiler's hook for a course; if that fails, log a warning and return None.

    job_folder: where it writes (checkpoints/JOB). begun: when the program started, in Unix seconds.
    """
    try:
        sampler = make_sampler(job_folder / "profile", interval)
        return Profiler(job_folder, setup, course, sampler, begun)
    except Exception as error:  # noqa: BLE001  a training is worth more than its profile
        log(f"WARNING: the training goes on without its profiler: {type(error).__name__}: {error}")
        return None


def make_sampler(folder: Path, interval: float) -> SystemSampler | None:
    """Return the sampler of the machine; None, with a warning, where psutil is missing."""
    try:
        import psutil
    except ImportError as error:
        log(f"WARNING: psutil is missing, so CPU, memory, disk and network are not sampled ({error})")
        return None
    return SystemSampler(folder, Machine(psutil), interval)


class Profiler(Hook):
    """Watch a training, and write what was seen when the training ends, however it ends."""

    def __init__(self, folder: Path, setup: Setup, course: Course, sampler: SystemSampler | None, begun: float) -> None:
        self.folder, self.setup, self.course, self.sampler, self.begun = folder, setup, course, sampler, begun
        self.timeline: Timeline = make_timeline(setup.device)
        self.operators = OperatorWindow(setup.device)
        self.first_step: float | None = None
        self.steps = 0
        self.learner: Learner | None = None

    def on_start(self, learner: Learner) -> None:
        self.learner = learner
        self.timeline.attach(learner)
        self.course.batches.mark = self.timeline.mark
        if self.sampler:
            self.sampler.start()

    def on_batch(self, _epoch: int, _step: int) -> None:
        self.timeline.mark("data")
        self.first_step = self.first_step or time.time()
        if self.learner and self.timeline.looks_into():
            self.learner.is_looked_into = True
        if self.steps == WINDOW.start:
            self.guard(self.operators.start)

    def on_step(self, _epoch: int, _step: int) -> None:
        self.timeline.end_step()
        self.steps += 1
        if self.steps == WINDOW.stop:
            self.guard(self.operators.stop)

    def on_end(self) -> None:
        self.course.batches.mark = lambda _: None
        self.timeline.detach()
        self.guard(self.operators.stop)
        if self.sampler:
            self.guard(self.sampler.stop)
        self.guard(self.write)

    def write(self) -> None:
        """Write the files of the profile, and judge it by the rules."""
        write_json(self.folder / "profile/timeline.json", self.timeline.describe())
        self.operators.write(self.folder / "profile")
        reports = write_reports(self.folder, self.record())
        broken = [name for name, report in reports.items() if report["RuleTriggered"]]
        log(f"profiler: rules triggered: {', '.join(broken) or 'none'}")

    def record(self) -> Recording:
        """Gather what the rules judge."""
        stream, batches = self.setup.dataset.train.cache, self.course.batches
        return Recording(
            events=list(read_events(self.folder / "profile")),
            steps=self.timeline.steps,
            begun=self.begun,
            first_step=self.first_step,
            seen=time.time(),
            cores=os.cpu_count() or 1,
            workers=stream.workers if isinstance(stream, ImageStream) else None,
            prefetch=batches.prefetch,
            pin_memory=batches.pin,
        )

    def guard(self, act: Callable[[], Any]) -> None:
        """Run a part of the profiling; if it fails, log that and let the training go on."""
        try:
            act()
        except Exception as error:  # noqa: BLE001  a training is worth more than its profile
            log(f"WARNING: a part of the profile is missing: {type(error).__name__}: {error}")


class OperatorWindow:
    """Run torch.profiler over a few steps: the operators that took longest, and a full trace."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.profile: Any = None
        self.running = False

    def start(self) -> None:
        # Its library reports a missing GPU as an error.
        os.environ.setdefault("KINETO_LOG_LEVEL", "4" if self.on_gpu else "5")
        activities = [torch.profiler.ProfilerActivity.CPU]
        activities += [torch.profiler.ProfilerActivity.CUDA] if self.on_gpu else []
        self.profile = torch.profiler.profile(activities=activities, acc_events=True)
        self.profile.start()
        self.running = True

    def stop(self) -> None:
        """Stop recording; the result is written later, when no step waits for it."""
        if self.running:
            self.running = False
            self.profile.stop()

    def write(self, folder: Path) -> None:
        """Write operators.json and trace.json.gz, if any step was recorded."""
        if self.profile is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            trace = Path(scratch) / "trace.json"
            self.profile.export_chrome_trace(str(trace))
            # torch would compress it line by line, which takes several times as long.
            (folder / "trace.json.gz").write_bytes(gzip.compress(trace.read_bytes(), TRACE_LEVEL))
        averages = self.profile.key_averages()
        rows = sorted((describe_operator(one, self.on_gpu) for one in averages), key=lambda row: -row["self_ms"])
        total = sum(row["self_ms"] for row in rows)
        for row in rows:
            row["share"] = round(row["self_ms"] / total, 4) if total else 0.0
        write_json(folder / "operators.json", {"format": 1, "steps": len(WINDOW), "operators": rows[:OPERATORS]})


def describe_operator(average: Any, on_gpu: bool) -> dict[str, Any]:
    own, whole = average.self_cpu_time_total, average.cpu_time_total
    if on_gpu:
        own, whole = average.self_device_time_total, average.device_time_total
    return {
        "name": average.key,
        "calls": average.count,
        "self_ms": round(own / 1e3, 3),
        "total_ms": round(whole / 1e3, 3),
    }
