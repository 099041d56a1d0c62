"""Decide the next step of a run. Pure: an observation goes in, one step comes out.

observation ──▶ decide ──▶ Pin, Inspect, EstimateCost, Reserve, Hold, StartTuning, StopTuning, RecordTuning,
                           StartTraining, StopTraining, Select, Deploy, DeleteEndpoint, RecordDeployment, TryElsewhere,
                           Scale, Finish, WriteReport, Settle, Close, or Wait
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from chalicelib.runs.claims import CLAIM_SECONDS
from chalicelib.runs.identity import Run
from chalicelib.runs.observation import FOREIGN, Endpoint, Observation, Room, Trial, Tuning
from chalicelib.runs.steps import (
    Close,
    DeleteEndpoint,
    Deploy,
    EstimateCost,
    Finish,
    Hold,
    Inspect,
    Pin,
    RecordDeployment,
    RecordTuning,
    Reserve,
    Scale,
    Select,
    Settle,
    StartTraining,
    StartTuning,
    Step,
    StopTraining,
    StopTuning,
    TryElsewhere,
    Wait,
    WriteReport,
)

UNDER_WAY = ("InProgress", "Stopping")
CHANGING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
CHECK_LIMIT = timedelta(hours=2)  # a pre-flight that has been killed for this long always will be
NOTICE_LIMIT = timedelta(days=1)  # EventBridge tries a target for as long
WAIT_LIMITS = {  # nothing that is missing after this long arrives on its own
    "cap": timedelta(days=62),  # two turns of the month
    "quota": timedelta(days=2),
}
STAGE_NOTICES = {"tuning": "Tuning Started", "training": "Training Started", "deploying": "Deployment Started"}
FINAL_NOTICES = {
    "rejected": "Dataset Rejected",
    "deployed": "Model Deployed",
    "declined": "Model Declined",
    "failed": "Run Failed",
    "stopped": "Run Stopped",
    "superseded": "Run Superseded",
}


def decide(seen: Observation) -> Step:
    """Return the one next step of a run."""
    if seen.result:
        return _decide_ended(seen, seen.result)
    if seen.stop and not seen.requested and not _is_on_endpoint(seen):
        return _decide_stop(seen)
    if "tuning.json" not in seen.files:
        return _decide_tuning(seen) if seen.tuning else _decide_checks(seen)
    if "decision.json" not in seen.files:
        return _decide_training(seen)
    return _decide_deployment(seen)


def find_wait_begin(seen: Observation, kind: str) -> datetime:
    """Return since when the run has waited for this kind of thing before its next launch: now, if it just began to."""
    known = seen.waiting or {}
    if (known.get("for"), known.get("kind")) != (seen.next_launch, kind):
        return seen.now
    return datetime.fromisoformat(known["since"])


def decide_wait(seen: Observation, kind: str, reason: str) -> Hold | Finish:
    """Decide what a run does that cannot begin now: it waits, or ends if it has waited for as long as it may."""
    until = find_wait_begin(seen, kind) + WAIT_LIMITS[kind]
    if seen.now >= until:
        return _finish(seen, "failed", f"The run gave up after waiting {WAIT_LIMITS[kind].days} days. {reason}")
    return Hold(f"{reason} It is tried again every few minutes until {until:%Y-%m-%d %H:%M} UTC.", kind)


def find_due_notices(seen: Observation) -> list[str]:
    """List the notifications that the run's state asks for and that were not sent yet, in order."""
    if seen.result:
        expected = [STAGE_NOTICES[stage] for stage in seen.result["reached"]]
        expected.append(FINAL_NOTICES[seen.result["status"]])
    else:
        expected = [STAGE_NOTICES[stage] for stage in find_reached(seen)]
    return [notice for notice in expected if f"notices/{name_notice(notice)}.json" not in seen.files]


def name_notice(notice: str) -> str:
    """Return the file name of a notification: `Model Deployed` becomes `model-deployed`."""
    return notice.lower().replace(" ", "-")


def find_reached(seen: Observation) -> tuple[str, ...]:
    """List the stages that have begun on AWS."""
    begun = {
        "tuning": seen.tuning is not None or "tuning.json" in seen.files,
        "training": seen.training is not None or "decision.json" in seen.files,
        "deploying": seen.was_requested,
    }
    return tuple(stage for stage, is_begun in begun.items() if is_begun)


def _decide_ended(seen: Observation, result: dict[str, Any]) -> Step:
    """Decide what is left after the end of a run.

    A look that began before a person's stop may launch a job after it, so a stopped run waits until none can live.
    """
    if result["status"] == "stopped":
        if seen.tuning and seen.tuning.status == "InProgress":
            return StopTuning()
        if seen.training and seen.training.status == "InProgress":
            return StopTraining()
    if "report.html" not in seen.files:
        return WriteReport()
    ended_ago = seen.now - datetime.fromisoformat(result["ended_at"])
    if result["status"] == "stopped" and ended_ago < timedelta(seconds=CLAIM_SECONDS):
        return Wait("a look that began before the stop may still be under way")
    if (seen.tuning or seen.training) and _is_under_way(seen):
        return Wait("a job of the stopped run is still stopping")
    if seen.run.cost and "settlement.json" not in seen.files:
        return Settle()
    if find_due_notices(seen) and ended_ago < NOTICE_LIMIT:
        return Wait("a notification could not be sent yet")
    return Close()


def _is_under_way(seen: Observation) -> bool:
    return any(job is not None and job.status in UNDER_WAY for job in (seen.tuning, seen.training))


def _decide_stop(seen: Observation) -> Step:
    if seen.stage == "tuning" and seen.tuning and seen.tuning.status in UNDER_WAY:
        return StopTuning() if seen.tuning.status == "InProgress" else Wait("the tuning job is stopping")
    if seen.stage == "training" and seen.training and seen.training.status in UNDER_WAY:
        return StopTraining() if seen.training.status == "InProgress" else Wait("the training job is stopping")
    by = (seen.stop or {}).get("by") or "a person"
    return _finish(seen, "stopped", f"Stopped by {by} while {seen.status}.")


def _decide_checks(seen: Observation) -> Step:
    if seen.run.recipe_error:
        return _finish(seen, "rejected", seen.run.recipe_error)
    if seen.dataset is None:
        if seen.now - seen.created_at > CHECK_LIMIT:
            return _finish(seen, "failed", f"The dataset could not be checked within {CHECK_LIMIT}: is it too large?")
        return Inspect() if "input/" in seen.files else Pin()
    problems = seen.dataset["problems"]
    return _finish(seen, "rejected", explain_problems(problems)) if problems else _decide_start(seen)


def _decide_start(seen: Observation) -> Step:
    """Let the run begin once its cost is known, within its budget, and reserved within the month's cap."""
    if seen.run.cost is None:
        return EstimateCost()
    if seen.run.cost.get("problem"):
        return _finish(seen, "rejected", seen.run.cost["problem"])
    room = seen.room or Room(granted=True)
    if room.granted:
        return StartTuning()
    if room.refused:
        return _finish(seen, "rejected", room.refused)
    return decide_wait(seen, "cap", room.obstacle) if room.obstacle else Reserve()


def explain_problems(problems: list[Any]) -> str:
    """Join the problems of a dataset into one reason: the first few in full, the others as a count."""
    texts = [str(each.get("message", each)) if isinstance(each, dict) else str(each) for each in problems]
    more = f" And {len(texts) - 5} more: see dataset.json." if len(texts) > 5 else ""
    return " ".join(texts[:5]) + more


def _decide_tuning(seen: Observation) -> Step:
    tuning = seen.tuning
    assert tuning is not None
    if tuning.status == FOREIGN:
        return _finish(seen, "failed", _explain_foreign("tuning", seen.run.run_id))
    if tuning.status in UNDER_WAY:
        return Wait("the tuning job is running")
    best = next((trial for trial in tuning.trials if trial.name == tuning.best), None)
    if tuning.status in ("Completed", "Stopped") and best:
        return RecordTuning(_describe_tuning(tuning, best))
    reasons = [tuning.reason, *(trial.reason for trial in tuning.trials)]
    why = next((reason for reason in reasons if reason), "no trial reported an objective")
    return _finish(seen, "failed", f"The tuning job {seen.run.run_id} is {tuning.status} with no best trial: {why}")


def _describe_tuning(tuning: Tuning, best: Trial) -> dict[str, Any]:
    return {
        "format": 1,
        "status": tuning.status,
        "parallel_trials": tuning.at_once,
        "best": {"name": best.name, "objective": best.objective, "hyperparameters": best.hyperparameters},
        "trials": [describe_trial(trial) for trial in tuning.trials],
    }


def describe_trial(trial: Trial) -> dict[str, Any]:
    """Describe a trial as tuning.json and the routes show it. Times are ISO 8601."""
    return {
        "name": trial.name,
        "status": trial.status,
        "hyperparameters": trial.hyperparameters,
        "objective": trial.objective,
        "reason": trial.reason,
        "started_at": trial.started_at.isoformat() if trial.started_at else None,
        "ended_at": trial.ended_at.isoformat() if trial.ended_at else None,
        "billable_seconds": trial.billable_seconds,
        "instance_type": trial.instance_type,
    }


def _decide_training(seen: Observation) -> Step:
    assert seen.tuned is not None
    training = seen.training
    if training is None:
        return StartTraining(seen.tuned["best"]["hyperparameters"], types=seen.training_types)
    if training.status == FOREIGN:
        return _finish(seen, "failed", _explain_foreign("training", training.name))
    if training.is_out_of_capacity and seen.training_types:
        return StartTraining(seen.tuned["best"]["hyperparameters"], training.number + 1, seen.training_types)
    if training.status in UNDER_WAY:
        return Wait("the training job is running")
    if training.status in ("Completed", "Stopped"):
        of_both = (seen.trial_evaluation, training.evaluation)
        return Select(select_model(seen.run, seen.tuned["best"], *of_both, training.name))
    why = training.reason or "SageMaker gives no reason"
    return _finish(seen, "failed", f"The training job {training.name} is {training.status}: {why}")


def _explain_foreign(kind: str, name: str) -> str:
    return f"There is a {kind} job {name} that is not of this run. Delete it, and POST /runs/RUN_ID/retry."


def select_model(
    run: Run,
    best: dict[str, Any],
    of_trial: dict[str, Any] | None,
    of_training: dict[str, Any] | None,
    training: str | None = None,
) -> dict[str, Any]:
    """Build decision.json: the training's model ships unless the best trial's is better by over one standard error.

    Both evaluations are of the validation split; the test split never selects. The larger of the two standard errors
    counts, so that chance alone seldom rejects the training. A training that left no evaluation is rejected.
    """
    trial_value = of_trial["objective"]["value"] if of_trial else best["objective"]
    error = max(each["objective"]["standard_error"] for each in (of_trial, of_training) if each) if of_training else 0.0
    value = of_training["objective"]["value"] if of_training else None
    if value is None:
        ships, why = "trial", "The training left no evaluation, so the best trial's model ships."
    elif trial_value is not None and value < trial_value - error:
        ships = "trial"
        why = f"The training reached {value:.4f}, the best trial {trial_value:.4f}: worse by more than {error:.4f}."
    else:
        ships, why = "training", f"The training reached {value:.4f}, within one standard error or better."
    job = (training or run.training_job) if ships == "training" else best["name"]
    shipped = of_training if ships == "training" else of_trial
    return {
        "format": 1,
        "ships": ships,
        "training_job_name": job,
        "model_data": f"{run.uri}output/{job}/output/model.tar.gz",
        "objective": {"training": value, "trial": trial_value, "standard_error": error},
        "reason": why,
        "declined": explain_decline(run, shipped),
    }


def explain_decline(run: Run, evaluation: dict[str, Any] | None) -> str | None:
    """Explain why the recipe's gate rejects a model with this evaluation. Returns None if the model passes."""
    least = (run.recipe or {}).get("gate", {}).get("min_accuracy", 0.0)
    if not least:
        return None
    reached = (evaluation or {}).get("valid", {}).get("accuracy")
    if reached is not None and reached >= least:
        return None
    told = "is unknown, as its job left no evaluation" if reached is None else f"is {reached:.4f}"
    return f"The model's accuracy on the validation split {told}, and the recipe's gate.min_accuracy is {least:g}."


def _decide_deployment(seen: Observation) -> Step:
    endpoint = seen.endpoint
    declined = (seen.decision or {}).get("declined")
    if declined and not seen.requested:
        return _finish(seen, "declined", declined)
    if seen.rival:
        return _finish(seen, "superseded", f"The newer run {seen.rival} is on the endpoint.")
    if endpoint is None:
        why = f"The endpoint {seen.run.endpoint} was deleted while it was being deployed."
        return _finish(seen, "failed", why) if seen.requested else Deploy(update=False)
    if _is_on_endpoint(seen) and not seen.requested and not (seen.was_requested and endpoint.status == "Failed"):
        return RecordDeployment()
    if endpoint.status in CHANGING:
        return Wait(f"the endpoint is {endpoint.status}")
    if endpoint.status == "InService":
        return _decide_in_service(seen, endpoint)
    if _can_go_elsewhere(seen, endpoint):
        return TryElsewhere(endpoint.reason or "")
    if seen.requested:
        why = endpoint.reason or "SageMaker gives no reason"
        return _finish(seen, "failed", f"The endpoint {seen.run.endpoint} is {endpoint.status}: {why}")
    return DeleteEndpoint()


def _is_on_endpoint(seen: Observation) -> bool:
    """Return whether the endpoint serves this run or soon will: it was asked to, even if no look recorded that."""
    return bool(seen.endpoint and seen.run.run_id in (seen.endpoint.config, seen.endpoint.pending))


def _can_go_elsewhere(seen: Observation, endpoint: Endpoint) -> bool:
    """Return whether AWS lacked the machine that was asked for, and another type is left to ask for."""
    return seen.requested and endpoint.is_out_of_capacity and bool(seen.endpoint_types)


def _decide_in_service(seen: Observation, endpoint: Endpoint) -> Step:
    is_scaled = "scaling.json" in seen.files
    if endpoint.config == seen.run.run_id:
        plan = (seen.run.recipe or {}).get("endpoint", {})
        return _finish(seen, "deployed", None) if is_scaled or plan.get("kind") != "instance" else Scale()
    if _can_go_elsewhere(seen, endpoint):
        return TryElsewhere(endpoint.reason or "")
    if seen.requested and not is_scaled:  # the endpoint went back, and was kept from scaling meanwhile
        return Scale()
    if seen.requested:
        why = f"The endpoint {seen.run.endpoint} went back to {endpoint.config}: {endpoint.reason or 'no reason given'}"
        return _finish(seen, "failed", why)
    return Deploy(update=True)


def _finish(seen: Observation, status: str, reason: str | None) -> Finish:
    return Finish(status, reason, find_reached(seen))
