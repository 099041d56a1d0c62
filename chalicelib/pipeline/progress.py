"""Describe runs for the routes: the list, and one run's progress."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from chalicelib.costs.allowances import explain_fewer
from chalicelib.costs.billing import count_billable, meter, tell_training
from chalicelib.errors import BadRequest
from chalicelib.models.choosing import describe_trial
from chalicelib.models.intervals import add_interval
from chalicelib.pipeline.job_files import is_from_scratch
from chalicelib.pipeline.observing import (
    count_seconds,
    observe,
    read_evaluation,
    see_endpoint,
    see_trainings,
    see_trials,
)
from chalicelib.pipeline.verdicts import Story, list_advice, tell_shipped
from chalicelib.runs.identity import RUN_ID, Run
from chalicelib.runs.observation import APPROVAL, Observation, Training
from chalicelib.services import Services

PAGE = 50
PLACE = re.compile(r"[0-9]{13}/" + RUN_ID.pattern)  # where the list goes on
MAX_PAGE = 200
REPORT_SECONDS = 3600
MAX_LOOKED_AT = 20  # trials of a running tuning that one look describes one by one


def list_runs(limit: str | None, after: str | None, services: Services) -> dict[str, Any]:
    """Return a page of runs, newest first: {runs, next, billed}. Pass `next` as `after` to get the following page."""
    if limit is not None and not (limit.isascii() and limit.isdecimal() and 0 < int(limit[:9]) <= MAX_PAGE):
        raise BadRequest(f"limit is {limit[:20]!r}, and must be a whole number from 1 to {MAX_PAGE}.")
    if after and not PLACE.fullmatch(after):
        raise BadRequest(f"after is {after[:50]!r}, and must be what `next` of the page before says.")
    runs, following = services.runs.list_all(int(limit) if limit else PAGE, after or "")
    return {"runs": runs, "next": following, "billed": services.settings.billed}


def describe_run(run_id: str, services: Services) -> dict[str, Any]:
    """Return a run's status, its trials so far, the best one, its metrics once done, and times. Raises RunNotFound."""
    seen = observe(services.runs.get(run_id), services)
    run = seen.run
    tuned = seen.tuned or services.runs.read_file(run_id, "tuning.json")
    trials = tuned["trials"] if tuned else _list_trials(run, seen, services)
    result = seen.result or {}
    tries = see_trainings(run, services) if "tuning.json" in seen.files else []
    training = _describe_training(tries)
    return {
        "run_id": run.run_id,
        "dataset": run.dataset,
        "status": seen.status,
        "reason": result.get("reason") or seen.wait_reason or (seen.trouble or {}).get("reason"),
        "stopping": bool(seen.stop) and not seen.result,
        "notes": _list_notes(seen, tuned, services),
        "attempt": run.attempt,
        "created_at": run.created_at,
        "ended_at": result.get("ended_at"),
        "seconds": result.get("seconds") or count_seconds(seen, services),
        "billable_seconds": count_billable([*trials, *map(tell_training, tries)], seen.now),
        "cost": meter(run, seen.dataset, trials, [tell_training(each) for each in tries], services),
        "recipe": run.recipe or {},
        "dataset_report": seen.dataset,
        "trials": trials,
        "best": tuned["best"] if tuned else _find_best(trials),
        "training": training,
        **_describe_outcome(seen, trials, services),
        "endpoint": _describe_endpoint(run, seen, services),
        "links": {"folder": run.uri, "model": f"/models/{run.dataset}", **_sign_files(seen, services)},
    }


def _describe_outcome(seen: Observation, trials: Sequence[Mapping[str, Any]], services: Services) -> dict[str, Any]:
    """Describe what ships, how good it is and what to do next; the last two once the run has ended."""
    run, result = seen.run, seen.result or {}
    decision = services.runs.read_file(run.run_id, "decision.json") if "decision.json" in seen.files else None
    evaluation = read_evaluation(run, decision["training_job_name"], services) if decision and result else None
    best = result.get("hyperparameters") or {}
    story = Story(result, run.recipe or {}, trials, best=best, decision=decision, evaluation=evaluation)
    return {
        "decision": decision,
        "shipped": tell_shipped(story) if decision and seen.status == "deployed" else None,
        "approval": services.runs.read_file(run.run_id, APPROVAL) if seen.is_approved else None,
        "metrics": add_interval(result.get("metrics")),
        "pretrained": (evaluation or {}).get("pretrained"),
        "advice": list_advice(story) if result else [],
    }


def _list_notes(seen: Observation, tuned: Mapping[str, Any] | None, services: Services) -> list[str]:
    """List what is not as the recipe asks for, and why, the costliest first."""
    scratch = [tell_scratch(str((seen.run.recipe or {}).get("architecture", "resnet18")))]
    asked = (seen.run.recipe or {}).get("parallel_trials", 1)
    known = (tuned or {}).get("parallel_trials") or (seen.tuning.at_once if seen.tuning else None)
    note = explain_fewer(asked, known or services.settings.max_parallel_trials or asked)
    return [*(scratch if is_from_scratch(seen.run, services) else []), *([note] if note else [])]


def tell_scratch(architecture: str) -> str:
    """Return what a training from scratch means, and what to do about it."""
    return (
        f"Trained from scratch: no ImageNet weights of {architecture} could be had, so expect a much lower accuracy on "
        f"photographs. Put them into the bucket (`make weights ARCH={architecture}`: docs/weights.md says how), then "
        "train again."
    )


def _list_trials(run: Run, seen: Observation, services: Services) -> list[dict[str, Any]]:
    """List the trials of a tuning job that is running, or that ended without a best trial."""
    began = seen.tuning is not None or "tuning" in (seen.result or {}).get("reached", [])
    return [describe_trial(trial) for trial in see_trials(run, services, most=MAX_LOOKED_AT)] if began else []


def _find_best(trials: list[dict[str, Any]]) -> dict[str, Any] | None:
    measured = [trial for trial in trials if trial["objective"] is not None]
    best = max(measured, key=lambda trial: trial["objective"], default=None)
    return {name: best[name] for name in ("name", "objective", "hyperparameters")} if best else None


def _describe_training(tries: Sequence[Training]) -> dict[str, Any] | None:
    """Describe the last try of the final training, or return None if there was none yet."""
    if not tries:
        return None
    return {"status": tries[-1].status, "reason": tries[-1].reason, **tell_training(tries[-1])}


def _describe_endpoint(run: Run, seen: Observation, services: Services) -> dict[str, Any]:
    """Describe the endpoint as it is now, which may serve another run by now, or be gone."""
    is_deployed = seen.status == "deployed"
    endpoint = see_endpoint(run.endpoint, services) if is_deployed and not seen.endpoint else seen.endpoint
    return {
        "name": run.endpoint,
        "status": endpoint.status if endpoint else None,
        "serves": endpoint.config if endpoint else None,
    }


def _sign_files(seen: Observation, services: Services) -> dict[str, str | None]:
    """Return URLs that open the run's files in a browser for an hour; None for one that is not written."""
    return {
        name: services.bucket.sign_download(f"{seen.run.folder}{file}", REPORT_SECONDS) if file in seen.files else None
        for name, file in (("report", seen.report), ("fixes", "dataset-fixes.csv"))
    }
