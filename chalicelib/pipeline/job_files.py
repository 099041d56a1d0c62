"""Read what a run's jobs write while they run (runs/RUN_ID/jobs/JOB/), for the routes.

The training program defines the format of these files. A file that is missing or half written is left out: it comes
later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from chalicelib.errors import BadRequest, ServiceNotFound
from chalicelib.pipeline.observing import see_trainings, see_trials
from chalicelib.pipeline.verdicts import list_typical
from chalicelib.recipes.documents import recipe_schema
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
FIXES = "dataset-fixes.csv"
TAIL = 50
MOST_LINES = 10_000
LATE_RUNS = 5  # the newest ones, in which weights were looked for
FEW = (
    "From scratch, a few hundred photographs seldom make a model that beats guessing, and one that does not is not "
    "deployed. `make weights ARCH={architecture}` puts them there: docs/weights.md says how, also without internet."
)
WEIGHTS = {
    "unknown": "No ImageNet weights of {architecture} are in the bucket. The run looks for them on its machine and on "
    f"the internet, and trains from scratch where it finds none. {FEW}",
    "missing": "The last run found no ImageNet weights of {architecture}, in the bucket or elsewhere, and trained from "
    f"scratch. {FEW}",
}
THRESHOLDS = (*(number / 20 for number in range(20)), 0.99)


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
    return bool(_read_start(run, services).get("pretrained") == "none")


def _read_start(run: Run, services: Services) -> dict[str, Any]:
    """Return what the first job of a run began with; empty before it has."""
    folder = f"{run.folder}jobs/"
    names = sorted(name.rstrip("/") for name in services.bucket.list_names(folder) if name.endswith("/"))
    stored = services.runs.read_job_file(run.run_id, names[0], "metrics.jsonl") if names else None
    return (read_metrics(stored.body)["start"] if stored else None) or {}


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
        "training": training,
        "evaluation": read(evaluated, "evaluation.json"),
        "comparison": read(training, "comparison.json"),
        "thresholds": weigh_thresholds((read(evaluated, "predictions.json") or {}).get("test") or {}),
        **{told: read(training, name) for told, name in DOCUMENTS.items()},
        "profiler_rules": _read_profiler_reports(run, training, services),
    }


def weigh_thresholds(split: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return what a threshold does: the share of test images answered, and the accuracy among those."""
    names = ("labels", "predicted", "probability")
    rows = list(zip(*(split.get(name) or () for name in names), strict=True))
    curve = []
    for least in THRESHOLDS if rows else ():
        kept = [label == predicted for label, predicted, probability in rows if probability >= least]
        if kept:
            curve.append({"threshold": least, "coverage": len(kept) / len(rows), "accuracy": sum(kept) / len(kept)})
    return curve


def show_pictures(run_id: str, services: Services) -> dict[str, Any]:
    """Return the small images that the run's training kept: {mistakes, suspects, samples}. Raises RunNotFound."""
    run = services.runs.get(run_id)
    stored = services.runs.read_job_file(run_id, _find_training(run, services), "pictures.json")
    told = stored.as_json() if stored else {}
    return {name: told.get(name) or [] for name in ("mistakes", "suspects", "samples")}


def read_log(run_id: str, job: str | None, lines: str | None, services: Services) -> dict[str, Any]:
    """Return the last lines of a job's log: {job, lines}. Raises BadRequest, RunNotFound.

    Without a name it is the job that failed, else the last one that has begun.
    """
    run = services.runs.get(run_id)
    if job and job != run_id and not job.startswith(f"{run_id}-"):
        raise BadRequest(
            f"job is {job[:80]!r}, and must be one of the run's jobs: GET /runs/{run_id}/curves lists them."
        )
    if lines and not (lines.isascii() and lines.isdecimal() and 0 < int(lines[:9]) <= MOST_LINES):
        raise BadRequest(f"lines is {lines[:20]!r}, and must be a whole number from 1 to {MOST_LINES:,}.")
    chosen = job or _find_last_job(run, services)
    found = services.logs.read_tail(chosen, int(lines) if lines else TAIL) if chosen else []
    return {"job": chosen, "lines": found}


def take_findings(run: Run, training: str, services: Services) -> bytes | None:
    """Copy a training's list of labels that look wrong into the run's folder, and return the report that it drew."""
    folder = f"{run.folder}jobs/{training}/"
    if fixes := services.bucket.read(f"{folder}{FIXES}"):
        services.bucket.create(f"{run.folder}{FIXES}", fixes.body, "text/csv; charset=utf-8")
    drawn = services.bucket.read(f"{folder}report.html")
    return drawn.body if drawn else None


def _find_last_job(run: Run, services: Services) -> str | None:
    """Return the final training; before it a trial that failed as most did, else the last one; None before any."""
    if "tuning.json" in services.runs.list_files(run.run_id) and (trainings := see_trainings(run, services)):
        return trainings[-1].name
    try:
        trials = [trial for trial in see_trials(run, services) if trial.started_at or trial.reason]
    except ServiceNotFound:  # the tuning job has not begun, or never will
        return None
    typical = list_typical([trial.reason for trial in trials])
    return trials[typical[-1] if typical else -1].name if trials else None


def _find_training(run: Run, services: Services) -> str:
    """Return the name of the final training's job, whichever try it was: one without a machine has written nothing."""
    names = (name.rstrip("/") for name in services.bucket.list_names(f"{run.folder}jobs/"))
    return next((name for name in names if find_run_of_training(name) == run.run_id), run.training_job)


def _read_profiler_reports(run: Run, training: str, services: Services) -> dict[str, Any]:
    """Read the profiler's reports, by rule."""
    inner = f"jobs/{training}/{PROFILER_REPORTS}"
    names = [name for name in services.bucket.list_names(f"{run.folder}{inner}") if name.endswith(".json")]
    return {name.removesuffix(".json"): services.runs.read_file(run.run_id, f"{inner}{name}") for name in names}


def tell_weights(architecture: str | None, services: Services) -> dict[str, Any]:
    """Say whether a run would begin with ImageNet's weights: {architecture, state, message}. Raises BadRequest.

    The state is `found` where the bucket holds them or the last run had them, `missing` where the last run had none,
    and `unknown` before any run has looked: only a job sees its machine and whether it reaches the internet.
    """
    known = recipe_schema()["properties"]["architecture"]
    wanted = architecture or known["default"]
    if wanted not in known["enum"]:
        raise BadRequest(f"architecture is {wanted[:40]!r}. GET /recipes/schema lists the networks.")
    if _holds_weights(wanted, services):
        return {"architecture": wanted, "state": "found", "message": None}
    looked = _find_last_look(wanted, services)
    if looked not in (None, "none"):
        return {"architecture": wanted, "state": "found", "message": None}
    state = "unknown" if looked is None else "missing"
    return {"architecture": wanted, "state": state, "message": WEIGHTS[state].format(architecture=wanted)}


def _holds_weights(architecture: str, services: Services) -> bool:
    """Return whether the weights channel has a file of this network, as the jobs look for it."""
    folder = services.settings.weights_uri.removeprefix(f"{services.settings.bucket_uri}/")
    if not folder or folder.startswith("s3://"):
        return bool(folder)  # a bucket that may not be ours to list: whoever named it put them there
    names = services.bucket.list_names(folder)
    return any(name.endswith(".pth") and _strip(name).startswith(_strip(architecture)) for name in names)


def _strip(name: str) -> str:
    """Return a name's letters and digits: torchvision writes a network's name in its files in several ways."""
    return re.sub(r"[\W_]", "", name)


def _find_last_look(architecture: str, services: Services) -> str | None:
    """Return what the newest run that wanted this network's weights began with; None if no late run did."""
    runs = (services.runs.find(listed["run_id"]) for listed in services.runs.list_all(LATE_RUNS)[0])
    for run in runs:
        recipe = (run.recipe if run else None) or {}
        wants = recipe.get("architecture") == architecture and recipe.get("pretrained") != "none"
        if run and wants and (told := _read_start(run, services).get("pretrained")):
            return str(told)
    return None
