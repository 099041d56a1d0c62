"""Read what the jobs of a run left in their folders. A missing or broken file counts as absent."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What every job is given alike, and what says nothing about how it learns.
NOT_TUNED = {"profile", "run_id", "trial_job", "live_run"}
MAX_POINTS = 240
MAX_SYSTEM_LINES = 400_000
UTILISATION = {
    "CPUUtilization": "CPU, mean of the cores",
    "GPUUtilization": "GPU",
    "MemoryUsedPercent": "memory",
    "GPUMemoryUtilization": "GPU memory",
}


@dataclass(frozen=True)
class JobRecord:
    """One job's metrics.jsonl and evaluation.json. `epochs` are its records; an unfinished job has no evaluation."""

    name: str
    start: Mapping[str, Any] = field(default_factory=dict)
    epochs: Sequence[Mapping[str, Any]] = ()
    best_epoch: int | None = None
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def objective(self) -> float | None:
        return (self.evaluation.get("objective") or {}).get("value")

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return dict(self.start.get("hyperparameters") or {})


@dataclass(frozen=True)
class Findings:
    """Everything that a report is drawn from. An empty mapping stands for a missing file."""

    job: JobRecord
    trials: Sequence[JobRecord] = ()
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    profiler_rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    utilisation: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)

    def file(self, name: str) -> Mapping[str, Any]:
        """Return the content of NAME.json, or nothing."""
        return self.files.get(name) or {}


def read_findings(job_folder: Path, jobs_folder: Path) -> Findings:
    """Read the profiled job's folder, and its siblings' as the trials, in the order of their names."""
    siblings = [path for path in sorted(jobs_folder.glob("*/")) if path.resolve() != job_folder.resolve()]
    trials = [record for record in map(read_job, siblings) if record.start or record.epochs or record.evaluation]
    names = ("predictions", "rules", "rule-stop", "execution_plan", "baseline", "comparison", "labels", "unknown")
    files = {name: read_object(job_folder / f"{name}.json") for name in names}
    files |= {name: read_object(job_folder / "profile" / f"{name}.json") for name in ("timeline", "operators")}
    reports = sorted((job_folder / "profiler-reports").glob("*.json"))
    rules = {path.stem: read_object(path) for path in reports}
    return Findings(read_job(job_folder), trials, files, rules, read_utilisation(job_folder / "profile" / "system"))


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {"items": content}


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read JSON lines, skipping what is cut off."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


def read_job(folder: Path) -> JobRecord:
    """Read what one job left."""
    records = list(read_lines(folder / "metrics.jsonl"))
    merged = {name: value for record in records for name, value in record.items() if name in ("start", "best")}
    return JobRecord(
        name=folder.name,
        start=merged.get("start") or {},
        epochs=[record for record in records if "epoch" in record],
        best_epoch=(merged.get("best") or {}).get("epoch"),
        evaluation=read_object(folder / "evaluation.json"),
    )


def list_tuned(trials: Sequence[JobRecord]) -> list[str]:
    """Return the names of the hyperparameters that differ between the trials, in the order of their records."""
    values: dict[str, set[str]] = defaultdict(set)
    for trial in trials:
        for name, value in trial.hyperparameters.items():
            values[name].add(str(value))
    return [name for name, seen in values.items() if len(seen) > 1 and name not in NOT_TUNED]


def read_utilisation(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Read SageMaker's system metrics: (seconds since the first, per cent) of each device, means over time slices."""
    samples: dict[str, list[tuple[float, float]]] = defaultdict(list)
    count = 0
    for path in sorted(folder.rglob("*.json")):
        for line in read_lines(path):
            title = UTILISATION.get(str(line.get("Dimension") or line.get("Name")))
            if title and isinstance(line.get("Value"), int | float):
                samples[title].append((float(line.get("Timestamp", 0)), float(line["Value"])))
                count += 1
        if count > MAX_SYSTEM_LINES:
            break
    if not samples:
        return {}
    first = min(time for each in samples.values() for time, _ in each)
    last = max(time for each in samples.values() for time, _ in each)
    return {title: thin(each, first, last) for title, each in samples.items()}


def thin(samples: Sequence[tuple[float, float]], first: float, last: float) -> list[tuple[float, float]]:
    """Average samples into at most MAX_POINTS slices of at least half a second."""
    width = max((last - first) / MAX_POINTS, 0.5)
    slices: dict[int, list[float]] = defaultdict(list)
    for time, value in samples:
        slices[int((time - first) / width)].append(value)
    return [((number + 0.5) * width, sum(each) / len(each)) for number, each in sorted(slices.items())]
