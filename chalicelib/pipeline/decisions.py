"""Decide the next step of a run. Pure: an observation goes in, one step comes out.

observation ──▶ decide ──▶ Pin, Inspect, EstimateCost, Reserve, Hold, StartTuning, StopTuning, RecordTuning,
                           StartTraining, StopTraining, Select, Deploy, DeleteEndpoint, RecordDeployment, TryElsewhere,
                           Scale, Finish, WriteReport, Settle, Close, or Wait
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from chalicelib.costs.plans import read_limits
from chalicelib.errors import AccessDenied, ServiceError, ServiceNotFound
from chalicelib.models.choosing import choose_trial, decide_on_model, describe_tuning
from chalicelib.models.promoting import ASK, HOW_TO_APPROVE
from chalicelib.pipeline.verdicts import explain_failures, strip_reason
from chalicelib.recipes.resolving import resolve_recipe
from chalicelib.runs.claims import CLAIM_SECONDS
from chalicelib.runs.identity import find_name_problem
from chalicelib.runs.notices import FINAL_NOTICES, STAGE_NOTICES, list_unsent
from chalicelib.runs.observation import FOREIGN, UNDER_WAY, Endpoint, Observation, Room, Training, Tuning
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

CHANGING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
CHECK_LIMIT = timedelta(hours=2)  # a pre-flight that has been killed for this long always will be
NOTICE_LIMIT = timedelta(days=1)  # EventBridge tries a target for as long
WAIT_LIMITS = {  # nothing that is missing after this long arrives on its own
    "cap": timedelta(days=62),  # two turns of the month
    "quota": timedelta(days=2),
}
OVERDUE = timedelta(days=7)  # a job that runs for so long beyond its own limits is stopped
LOST_JOB = timedelta(days=90)  # and one that has not ended then is given up
LOST_ENDPOINT = timedelta(days=1)  # SageMaker's own limits of a change are hours
LOST_TURN = timedelta(days=7)  # and a run may wait for those of others
TROUBLE_LIMITS: dict[type[ServiceError], timedelta] = {  # a call that fails for as long ends the run
    AccessDenied: timedelta(minutes=30),  # IAM takes minutes to let a new role or policy be known everywhere
    ServiceNotFound: timedelta(minutes=30),
    ServiceError: timedelta(days=1),
}


def decide(seen: Observation) -> Step:
    """Return the one next step of a run."""
    if seen.result:
        return _decide_ended(seen, seen.result)
    if seen.stop and not seen.requested and not is_on_endpoint(seen):
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
    """List the notifications that the run's state asks for and that a channel has not had yet, in order."""
    expected = [STAGE_NOTICES[stage] for stage in seen.reached]
    if seen.result:
        expected.append(FINAL_NOTICES[seen.result["status"]])
    return [notice for notice in expected if list_unsent(notice, seen.files)]


def decide_trouble(seen: Observation, error: ServiceError, since: datetime) -> Finish | None:
    """Decide what a call that has failed since then means: None while it may still come right, else the run's end."""
    limit = next(limit for kind, limit in TROUBLE_LIMITS.items() if isinstance(error, kind))
    if seen.result or seen.now - since < limit:
        return None
    told = f"{limit.days} day" if limit.days else f"{limit.seconds // 60} minutes"
    advice = "Fix what it names, then try again."
    return _finish(seen, "failed", f"{error.message} It was tried again for {told}. {advice}")


def _decide_ended(seen: Observation, result: dict[str, Any]) -> Step:
    """Decide what is left after the end of a run.

    A look that began before the end may launch a job after it. So a run that could get one waits until no such look can
    live: what was launched is stopped, paid for, and announced.
    """
    is_watched = seen.is_watched
    if is_watched:
        if seen.tuning and seen.tuning.status == "InProgress":
            return StopTuning()
        if seen.training and seen.training.status == "InProgress":
            return StopTraining()
    if seen.report not in seen.files:
        return WriteReport()
    ended_ago = seen.now - datetime.fromisoformat(result["ended_at"])
    if is_watched and ended_ago < timedelta(seconds=CLAIM_SECONDS):
        return Wait("a look that began before the end may still be under way")
    if (seen.tuning or seen.training) and _is_under_way(seen):
        return Wait("a job of the ended run is still stopping")
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
    if problem := find_name_problem(seen.run.dataset):
        return _finish(seen, "rejected", f"{problem} Upload it under another name.")
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
        limit = timedelta(seconds=read_limits(seen.run, resolve_recipe(seen.run.recipe)).tuning)
        overdue = _decide_overdue(seen, f"tuning job {seen.run.run_id}", tuning, limit, StopTuning())
        return overdue or Wait("the tuning job is running")
    best = choose_trial(tuning)
    if tuning.status in ("Completed", "Stopped") and best:
        return RecordTuning(describe_tuning(tuning, best) | {"at": seen.now})
    why = explain_failures([trial.reason for trial in tuning.trials]) or tuning.reason
    told = why or f"The tuning job {seen.run.run_id} is {tuning.status}, and no trial reported an objective."
    return _finish(seen, "failed", told)


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
        limits = read_limits(seen.run, resolve_recipe(seen.run.recipe))
        limit = timedelta(seconds=limits.training + limits.wait)
        overdue = _decide_overdue(seen, f"training job {training.name}", training, limit, StopTraining())
        return overdue or Wait("the training job is running")
    if training.status in ("Completed", "Stopped"):
        selected = decide_on_model(seen)
        if selected is None:
            return _finish(seen, "failed", "Neither the training nor any trial left a model (model.tar.gz) to ship.")
        return Select(selected | {"at": seen.now})
    why = strip_reason(training.reason or f"it is {training.status}, and SageMaker gives no reason")
    return _finish(seen, "failed", f"The final training: {why}")


def _decide_overdue(seen: Observation, what: str, job: Tuning | Training, limit: timedelta, stop: Step) -> Step | None:
    """Decide about a job under way: None within its limits; it is stopped beyond them, and given up long after."""
    if job.created_at is None or seen.now < job.created_at + limit + OVERDUE:
        return None
    if seen.now >= job.created_at + limit + LOST_JOB:
        why = f"The {what} is {job.status} since {job.created_at:%Y-%m-%d}, long beyond its limit of {limit}."
        return _finish(seen, "failed", f"{why} Stop it, and try again.")
    return stop if job.status == "InProgress" else None


def _explain_foreign(kind: str, name: str) -> str:
    return f"There is a {kind} job {name} that is not of this run. Delete it, and try again."


def _decide_deployment(seen: Observation) -> Step:
    endpoint = seen.endpoint
    if (held := _hold_back(seen)) and not (seen.requested or seen.is_approved):
        return held
    if seen.rival:
        return _decide_against_rival(seen, seen.rival)
    if endpoint is None:
        why = f"The endpoint {seen.run.endpoint} was deleted while it was being deployed."
        return _finish(seen, "failed", why) if seen.requested else Deploy(update=False)
    if is_on_endpoint(seen) and not seen.requested and not (seen.was_requested and endpoint.status == "Failed"):
        return RecordDeployment()
    if endpoint.status in CHANGING and (since := _find_lost_since(seen, endpoint)):
        told = f"{endpoint.status} since {since:%Y-%m-%d %H:%M} UTC"
        return _finish(seen, "failed", f"The endpoint {seen.run.endpoint} is {told}, and there is no end of it.")
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


def _hold_back(seen: Observation) -> Finish | None:
    """Return the end of a run whose model the rules do not deploy, or None. A person may approve it afterwards."""
    decision = seen.decision or {}
    if declined := decision.get("declined"):
        return _finish(seen, "declined", declined)
    promotion = decision.get("promotion") or {}
    return _finish(seen, "undecided", promotion["sentence"]) if promotion.get("action") == ASK else None


def _find_change(seen: Observation, endpoint: Endpoint) -> str | None:
    """Return why a model is not deployed over the one that serves: they were not compared. None if nothing speaks."""
    promotion: dict[str, Any] = (seen.decision or {}).get("promotion") or {"when": "always"}
    if seen.is_approved or promotion["when"] == "always":
        return None
    if endpoint.config in (promotion["compared_with"], None):
        return None
    other = promotion["compared_with"] or "none"
    return (
        f"The live model stays until a person decides. It changed after this one was judged: that of {endpoint.config} "
        f"is live now, and this one was compared with {other}. {HOW_TO_APPROVE}"
    )


def _decide_against_rival(seen: Observation, rival: str) -> Step:
    """Let a newer run win. While that one is on its way, a run that serves is deployed: it serves on if that fails."""
    if seen.endpoint and seen.endpoint.config == seen.run.run_id:
        return _finish(seen, "deployed", None) if seen.requested else RecordDeployment()
    return _finish(seen, "superseded", f"The newer run {rival} is on the endpoint.")


def _find_lost_since(seen: Observation, endpoint: Endpoint) -> datetime | None:
    """Return since when an endpoint has been changing without end; None while it may still come right.

    A run that did not ask for it yet may wait behind others, and each of them may take its time.
    """
    decided = (seen.decision or {}).get("at")
    since = seen.asked_at or (datetime.fromisoformat(decided) if decided else seen.now)
    since = max(since, endpoint.changed_at or since)
    return since if seen.now >= since + (LOST_ENDPOINT if seen.asked_at else LOST_TURN) else None


def is_on_endpoint(seen: Observation) -> bool:
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
    if change := _find_change(seen, endpoint):
        return _finish(seen, "undecided", change)
    return Deploy(update=True)


def _finish(seen: Observation, status: str, reason: str | None) -> Finish:
    return Finish(status, reason, seen.reached)
