"""Read what a run's jobs write while they run (runs/RUN_ID/jobs/JOB/), for the routes.

The training program defines the format of these files. A file that is missing or half written is left out: it comes
later.
"""

from __future__ import annotations

import json
from typing import Any

from chalicelib.runs.identity import Run, find_run_of_training
from chalicelib.services import Services

# By the name under which the route returns each.
DOCUMENTS = {
    "rules": "rules.json",
    "rule_stop": "rule-stop.json",
    "execution_plan": "execution_plan.json",
    "baseline": "baseline.json",
    "timeline": "profile/timeline.json",
    "skipped": "skipped.json",
}
PROFILER_REPORTS = "profiler-reports/"


def list_curves(run_id: str, services: Services) -> dict[str, Any]:
    """List the epochs of every job of a run so far: {jobs: [{name, start, epochs, best}]}. Raises RunNotFound."""
    folder = f"{services.runs.get(run_id).folder}jobs/"
    names = [name.rstrip("/") for name in services.bucket.list_names(folder) if name.endswith("/")]
    curves = ((name, services.runs.read_job_file(run_id, name, "metrics.jsonl")) for name in sorted(names))
    return {"jobs": [{"name": name, **read_metrics(stored.body)} for name, stored in curves if stored]}


def read_metrics(text: bytes) -> dict[str, Any]:
    """Parse a metrics.jsonl: {start, epochs, best}. A line that is not complete yet is skipped."""
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


def is_from_scratch(run: Run, services: Services) -> bool:
    """Return whether the run's jobs found no pretrained weights, though its recipe does not do without them."""
    if (run.recipe or {}).get("pretrained") == "none":
        return False
    folder = f"{run.folder}jobs/"
    names = sorted(name.rstrip("/") for name in services.bucket.list_names(folder) if name.endswith("/"))
    stored = services.runs.read_job_file(run.run_id, names[0], "metrics.jsonl") if names else None
    start = read_metrics(stored.body)["start"] if stored else None
    return (start or {}).get("pretrained") == "none"


def describe_jobs(run_id: str, services: Services) -> dict[str, Any]:
    """Return the findings about a run's model and its training. Raises RunNotFound.

    `evaluation` comes from the job whose model ships, and from the training job until that is decided. The debugger's
    and profiler's findings come from the training job, the only one they watch. A finding that is missing is None.
    """
    run = services.runs.get(run_id)
    decision = services.runs.read_file(run_id, "decision.json") or {}
    training = _find_training(run, services)
    evaluated = decision.get("training_job_name") or training

    def read(job: str, name: str) -> dict[str, Any] | None:
        stored = services.runs.read_job_file(run_id, job, name)
        return stored.as_json() if stored else None

    return {
        "job": evaluated,
        "evaluation": read(evaluated, "evaluation.json"),
        **{told: read(training, name) for told, name in DOCUMENTS.items()},
        "profiler_rules": _read_profiler_reports(run, training, services),
    }


def _find_training(run: Run, services: Services) -> str:
    """Return the name of the last training's job, whichever try it was: a try without a machine has written nothing."""
    names = (name.rstrip("/") for name in services.bucket.list_names(f"{run.folder}jobs/"))
    return next((name for name in names if find_run_of_training(name) == run.run_id), run.training_job)


def _read_profiler_reports(run: Run, training: str, services: Services) -> dict[str, Any]:
    """Read the profiler's reports, by rule."""
    inner = f"jobs/{training}/{PROFILER_REPORTS}"
    names = [name for name in services.bucket.list_names(f"{run.folder}{inner}") if name.endswith(".json")]
    return {name.removesuffix(".json"): services.runs.read_file(run.run_id, f"{inner}{name}") for name in names}
