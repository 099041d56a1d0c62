"""Judge a recording by the profiler's eleven rules, with AWS's names, thresholds and result files.

Defaults are those of AWS's `smdebug-rulesconfig`, except one. A rule waits for `patience` datapoints, 1,000 at AWS,
which is over eight minutes of samples; here it waits for a tenth of the recording where that is less, so that short
trainings are judged too. RuleParameters reports how many it waited for. Without a GPU, rules about GPUs have no
datapoint.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from job.artifact import write_json

from profiler.timeline import PHASES, Step

Parameters = dict[str, float]
Series = dict[str, dict[float, float]]


@dataclass(frozen=True)
class Recording:
    """What was recorded of a job: system events, the seconds of its steps by phase, and its loader.

    begun and first_step: Unix seconds; first_step is None where no step was made until `seen`. workers: how many images
    are decoded in parallel, None where none are.
    """

    events: Sequence[Mapping[str, Any]] = ()
    steps: Sequence[Step] = ()
    begun: float = 0.0
    first_step: float | None = None
    seen: float = 0.0
    cores: int = 1
    workers: int | None = None
    prefetch: int = 0
    pin_memory: bool = False


@dataclass
class Finding:
    """What a rule found. violations: how often it was broken. `triggered` decides whether it triggers; by default one
    violation does.
    """

    datapoints: int = 0
    violations: int = 0
    details: dict[str, Any] = field(default_factory=dict)
    triggered: bool | None = None


Judge = Callable[[Recording, Parameters], Finding]
RULES: dict[str, tuple[Judge, Parameters]] = {}


def rule(name: str, **parameters: float) -> Callable[[Judge], Judge]:
    """Register a rule in the table, under AWS's name and with AWS's parameters."""

    def enter(judge: Judge) -> Judge:
        RULES[name] = (judge, parameters)
        return judge

    return enter


def judge_all(recording: Recording) -> dict[str, dict[str, Any]]:
    """Judge a recording by every rule; return the contents of the result files, by name."""
    return {name: judge_by(name, recording) for name in RULES}


def judge_by(name: str, recording: Recording, **changed: float) -> dict[str, Any]:
    """Judge a recording by one rule, with AWS's parameters except those that are changed."""
    judge, defaults = RULES[name]
    parameters = {**defaults, **changed}
    if "patience" in defaults and "patience" not in changed:
        parameters["patience"] = min(defaults["patience"], len(stamps(recording)) // 10)
    found = judge(recording, parameters)
    triggered = found.violations > 0 if found.triggered is None else found.triggered
    return {
        "RuleTriggered": int(triggered),
        "Violations": found.violations,
        "Details": found.details,
        "Datapoints": found.datapoints,
        "RuleParameters": "\n".join(f"{key}:{value:g}" for key, value in parameters.items()),
    }


def write_reports(folder: Path, recording: Recording) -> dict[str, dict[str, Any]]:
    """Write FOLDER/profiler-reports/RULE.json for every rule. Returns the contents."""
    reports = judge_all(recording)
    for name, report in reports.items():
        write_json(folder / "profiler-reports" / f"{name}.json", report)
    return reports


def stamps(recording: Recording) -> list[float]:
    return sorted({event["Timestamp"] for event in recording.events})


def series(recording: Recording, dimension: str) -> Series:
    """Return the values of a dimension over time, by device (gpu0, cpu3); memory and rates are keyed by their name."""
    found: Series = defaultdict(dict)
    for event in recording.events:
        if dimension in (event["Dimension"], event["Name"]):
            found[event["Name"]][event["Timestamp"]] = event["Value"]
    return dict(sorted(found.items()))


def ordered(values: Mapping[float, float], patience: float = 0) -> list[float]:
    return [values[stamp] for stamp in sorted(values)][int(patience) :]


def windows(values: Sequence[float], size: float) -> Iterator[Sequence[float]]:
    """Cut values into windows; the last may be shorter."""
    for start in range(0, len(values), int(size)):
        yield values[start : start + int(size)]


def quantile(values: Sequence[float], share: float) -> float:
    return round(float(np.quantile(values, share)), 2) if len(values) else 0.0


def average(many: Series) -> dict[float, float]:
    """Return the mean over cores or GPUs at each moment."""
    found: dict[float, list[float]] = defaultdict(list)
    for values in many.values():
        for stamp, value in values.items():
            found[stamp].append(value)
    return {stamp: sum(values) / len(values) for stamp, values in found.items()}


@rule("LowGPUUtilization", threshold_p95=70, threshold_p5=10, window=500, patience=1000)
def find_low_gpu_utilization(recording: Recording, given: Parameters) -> Finding:
    """Find GPUs that are hardly used (95th percentile), or used unevenly over time (5th)."""
    found = Finding()
    for gpu, values in series(recording, "GPUUtilization").items():
        usable = ordered(values, given["patience"])
        found.datapoints += len(usable)
        for window in windows(usable, given["window"]):
            high, low = quantile(window, 0.95), quantile(window, 0.05)
            if high < given["threshold_p95"] or low < given["threshold_p5"]:
                found.violations += 1
                found.details[gpu] = {"gpu_95": high, "gpu_5": low}
    return found


@rule("GPUMemoryIncrease", increase=5, patience=1000, window=10)
def find_gpu_memory_increase(recording: Recording, given: Parameters) -> Finding:
    """Find GPU memory that grows by more than `increase` points from one window to the next."""
    found = Finding()
    for gpu, values in series(recording, "GPUMemoryUtilization").items():
        usable = ordered(values, given["patience"])
        found.datapoints += len(usable)
        full = [window for window in windows(usable, given["window"]) if len(window) == given["window"]]
        for before, after in pairwise(float(np.mean(window)) for window in full):
            if after - before > given["increase"]:
                found.violations += 1
                found.details[gpu] = {"increase": round(after - before, 2), "memory": round(after, 2)}
    return found


@rule("CPUBottleneck", threshold=50, gpu_threshold=10, cpu_threshold=90, patience=1000)
def find_cpu_bottleneck(recording: Recording, given: Parameters) -> Finding:
    """Find GPUs that idle while cores are busy, for more than `threshold` per cent of the time."""
    return find_bottleneck(recording, given, "CPUUtilization", given["cpu_threshold"])


@rule("IOBottleneck", threshold=50, gpu_threshold=10, io_threshold=50, patience=1000)
def find_io_bottleneck(recording: Recording, given: Parameters) -> Finding:
    """Find GPUs that idle while cores wait for a disk, for more than `threshold` per cent of the time."""
    return find_bottleneck(recording, given, "I/OWaitPercentage", given["io_threshold"])


def find_bottleneck(recording: Recording, given: Parameters, dimension: str, limit: float) -> Finding:
    gpus, cores = series(recording, "GPUUtilization"), series(recording, dimension)
    moments = sorted({stamp for values in gpus.values() for stamp in values})[int(given["patience"]) :]
    idle = [at for at in moments if any(values.get(at, 100) <= given["gpu_threshold"] for values in gpus.values())]
    blocked = [at for at in idle if any(values.get(at, 0) > limit for values in cores.values())]
    details = {"low_gpu_utilization": len(idle), "first": blocked[:3]} if blocked else {}
    triggered = 100 * len(blocked) / max(1, len(moments)) > given["threshold"]
    return Finding(len(moments), len(blocked), details, triggered)


@rule("BatchSize", cpu_threshold_p95=70, gpu_threshold_p95=70, gpu_memory_threshold_p95=70, patience=1000, window=500)
def find_small_batches(recording: Recording, given: Parameters) -> Finding:
    """Find that neither cores nor a GPU nor its memory are much used: larger batches would fit."""
    found, memory = Finding(), series(recording, "GPUMemoryUtilization")
    cpu = ordered(average(series(recording, "CPUUtilization")), given["patience"])
    for gpu, values in series(recording, "GPUUtilization").items():
        usable, held = ordered(values, given["patience"]), ordered(memory.get(gpu, {}), given["patience"])
        found.datapoints += len(usable)
        parts = zip(*(windows(each, given["window"]) for each in (cpu, usable, held)), strict=False)
        for window in parts:
            names = ("cpu_p95", "gpu_p95", "gpu_memory_p95")
            high = {name: quantile(each, 0.95) for name, each in zip(names, window, strict=True)}
            if all(high[name] < given[name.replace("_p95", "_threshold_p95")] for name in names):
                found.violations += 1
                found.details[gpu] = high
    return found


@rule("Dataloader", min_threshold=70, max_threshold=200)
def find_loaders(recording: Recording, given: Parameters) -> Finding:
    """Find that images are decoded by fewer workers than there are cores, or by many more."""
    if recording.workers is None or not recording.steps:
        return Finding()
    waits = [step["data"] for step in recording.steps]
    share = 100 * recording.workers / recording.cores
    details = {
        "cores": recording.cores,
        "dataloaders": recording.workers,
        "prefetch": bool(recording.prefetch),
        "pin_memory": recording.pin_memory,
        "dataloading_time": {f"p{part}": round(float(np.quantile(waits, part / 100)), 6) for part in (25, 50, 95)},
    }
    return Finding(len(waits), int(not given["min_threshold"] <= share <= given["max_threshold"]), details)


@rule("StepOutlier", stddev=3, n_outliers=10)
def find_step_outliers(recording: Recording, given: Parameters) -> Finding:
    """Find more than n_outliers steps that lasted longer than the mean by `stddev` standard deviations."""
    lasted = np.array([sum(step.values()) for step in recording.steps])
    if len(lasted) < 2:
        return Finding(len(lasted))
    limit = float(lasted.mean() + given["stddev"] * lasted.std())
    outliers = np.flatnonzero(lasted > limit).tolist()
    details = {
        "mean": round(float(lasted.mean()), 6),
        "stddev": round(float(lasted.std()), 6),
        "probability": round(len(outliers) / len(lasted), 4),
        "steps": outliers[:20],
    }
    return Finding(len(lasted), len(outliers), details, len(outliers) > given["n_outliers"])


@rule("MaxInitializationTime", threshold=20)
def find_slow_start(recording: Recording, given: Parameters) -> Finding:
    """Find that the first step came only after more than `threshold` minutes."""
    until = recording.seen if recording.first_step is None else recording.first_step
    minutes = (until - recording.begun) / 60
    details = {"minutes": round(minutes, 3), "started": recording.first_step is not None}
    return Finding(len(recording.steps), int(minutes > given["threshold"]), details)


@rule("LoadBalancing", threshold=0.5, patience=1000)
def find_unbalanced_load(recording: Recording, given: Parameters) -> Finding:
    """Find two GPUs used differently, by the Jensen-Shannon distance of their utilisation histograms."""
    found = Finding()
    usable = {name: ordered(one, given["patience"]) for name, one in series(recording, "GPUUtilization").items()}
    histograms = {name: np.histogram(values, bins=10, range=(0, 100))[0] for name, values in usable.items() if values}
    for (one, first), (other, second) in combinations(histograms.items(), 2):
        found.datapoints += len(usable[one])
        distance = measure_distance(first, second)
        if distance > given["threshold"]:
            found.violations += 1
            found.details[f"{one}, {other}"] = {"distance": round(distance, 4)}
    return found


def measure_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the square root of the Jensen-Shannon divergence (natural logarithm): 0 if equal, at most 0.83."""
    one, other = first / first.sum(), second / second.sum()
    middle = (one + other) / 2
    parts = [(p[p > 0] * np.log(p[p > 0] / middle[p > 0])).sum() for p in (one, other)]
    return float(np.sqrt(max(0.0, sum(parts) / 2)))


@rule("OverallSystemUsage")
def sum_up_system(recording: Recording, _given: Parameters) -> Finding:
    """Report how much of the machine was used. Like AWS's, this rule never triggers."""
    names = {
        "CPU": "CPUUtilization",
        "CPU memory": "MemoryUsedPercent",
        "GPU": "GPUUtilization",
        "GPU memory": "GPUMemoryUtilization",
        "I/O": "I/OWaitPercentage",
        "Network": "Algorithm",
    }
    details = {}
    for label, dimension in names.items():
        values = ordered(average(series(recording, dimension)))
        if values:
            shares = {"max": 1.0, "p99": 0.99, "p95": 0.95, "p50": 0.5, "min": 0.0}
            details[label] = {name: quantile(values, share) for name, share in shares.items()}
    return Finding(len(stamps(recording)), 0, details)


@rule("OverallFrameworkMetrics")
def sum_up_framework(recording: Recording, _given: Parameters) -> Finding:
    """Report each phase's share of the steps' time, in per cent. Like AWS's, this rule never triggers."""
    seconds = {phase: sum(step[phase] for step in recording.steps) for phase in PHASES}
    total = sum(seconds.values())
    details = {"phase": {phase: round(100 * value / total, 2) for phase, value in seconds.items()}} if total else {}
    return Finding(len(recording.steps), 0, details)
