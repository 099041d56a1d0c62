"""What a run's jobs write while they live (runs/RUN_ID/jobs/JOB/), as the routes tell it.

The files' forms are the training program's. What is not there yet, or is half written, is left out: it comes later.
"""

from __future__ import annotations

import json
from typing import Any

from chalicelib.runs.identity import Run, find_run_of_training
from chalicelib.services import Services

# By the name under which each is told.
DOCUMENTS = {
    "rules": "rules.json",
    "rule_stop": "rule-stop.json",
    "execution_plan": "execution_plan.json",
    "baseline": "baseline.json",
    "timeline": "profile/timeline.json",
}
PROFILER_REPORTS = "profiler-reports/"


def list_curves(run_id: str, services: Services) -> dict[str, Any]:
    """The epochs of every job of a run so far: {jobs: [{name, start, epochs, best}]}. Raises RunNotFound."""
    folder = f"{services.runs.get(run_id).folder}jobs/"
    names = [name.rstrip("/") for name in services.bucket.list_names(folder) if name.endswith("/")]
    curves = ((name, services.bucket.read(f"{folder}{name}/metrics.jsonl")) for name in sorted(names))
    return {"jobs": [{"name": name, **read_metrics(stored.body)} for name, stored in curves if stored]}


def read_metrics(text: bytes) -> dict[str, Any]:
    """What a metrics.jsonl says: {start, epochs, best}. A line that is not whole yet is passed over."""
    told: dict[str, Any] = {"start": None, "epochs": [], "best": None}
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if "epoch" in record:
            told["epochs"].append(record)
        told |= {name: record[name] for name in ("start", "best") if name in record}
    return told


def describe_jobs(run_id: str, services: Services) -> dict[str, Any]:
    """What was found out about a run's model and its training. Raises RunNotFound.

    `evaluation` is of the job whose model is shipped, and of the training job until that is decided; the debugger's and
    the profiler's findings are of the training job, the only one they watch. Each is None where there is none.
    """
    run = services.runs.get(run_id)
    decision = services.runs.read_file(run_id, "decision.json") or {}
    training = _find_training(run, services)
    evaluated = decision.get("training_job_name") or training

    def read(job: str, name: str) -> dict[str, Any] | None:
        return services.runs.read_file(run_id, f"jobs/{job}/{name}")

    return {
        "job": evaluated,
        "evaluation": read(evaluated, "evaluation.json"),
        **{told: read(training, name) for told, name in DOCUMENTS.items()},
        "profiler_rules": _read_profiler_reports(run, training, services),
    }


def _find_training(run: Run, services: Services) -> str:
    """The last training's job, whichever try it is: one for which AWS had no machine has written nothing."""
    names = (name.rstrip("/") for name in services.bucket.list_names(f"{run.folder}jobs/"))
    return next((name for name in names if find_run_of_training(name) == run.run_id), run.training_job)


def _read_profiler_reports(run: Run, training: str, services: Services) -> dict[str, Any]:
    """The profiler's reports by rule."""
    inner = f"jobs/{training}/{PROFILER_REPORTS}"
    names = [name for name in services.bucket.list_names(f"{run.folder}{inner}") if name.endswith(".json")]
    return {name.removesuffix(".json"): services.runs.read_file(run.run_id, f"{inner}{name}") for name in names}
