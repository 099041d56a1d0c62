"""Move a tuning job: observe its children, decide, act. A kill between any two acts loses nothing.

`advance` decides everything from the records in the store. The clock calls it after every change of a child. It is the
only writer of a tuning job under way, and the clock makes one call at a time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from localcloud.common.store import Record
from localcloud.protocol.service_model import find_operation, load_service
from localcloud.sagemaker.core.cloud import Cloud
from localcloud.sagemaker.core.events import TUNING_JOB, emit_change
from localcloud.sagemaker.core.tags import read_tags
from localcloud.sagemaker.training import jobs as training_jobs
from localcloud.sagemaker.training.jobs import begin_training_job, pick, stop_job
from localcloud.sagemaker.tuning.requests import build_child_request, count_most_children, read_objective, read_search
from localcloud.sagemaker.tuning.search import Trial, find_best, judge_hyperband, judge_median, suggest

log = logging.getLogger(__name__)
KIND = "hyper-parameter-tuning-job"
ENDED = ("Completed", "Failed", "Stopped")
MACHINES_FAULTS = ("InternalServerError", "CapacityError")
ALL_FAILED = "All training jobs failed. Please take a look at the training jobs failures to get more details."


@dataclass(frozen=True)
class Step:
    """The next step of a tuning job: launch one more child, wait for children, wind down (stop them), or end."""

    kind: Literal["launch", "wait", "wind_down", "end"]
    status: str = "Completed"
    reason: str | None = None


def advance(cloud: Cloud, name: str) -> None:
    """Take every step of the tuning job that is possible now."""
    while (launch := _step(cloud, name)) is not None:
        tuning, children = launch
        try:
            parents = _read_parents(cloud, tuning)
            tuned = suggest(read_search(tuning), [to_trial(child) for child in children], parents)
        except Exception as error:
            log.exception("tuning job %s cannot go on", name)
            _give_up(cloud, name, f"InternalServerError: {type(error).__name__}: {error}")
            return
        if tuned is None:
            return
        _launch(cloud, name, len(children), tuned)
    _judge_children(cloud, name)


def decide(tuning: Record, children: Sequence[Record], now: datetime) -> Step:
    """Decide the next step. It is pure: the same records and time give the same step."""
    running = sum(not has_ended(child) for child in children)
    if tuning["HyperParameterTuningJobStatus"] == "Stopping":
        return Step("wait") if running else Step("end", "Stopped")
    if (ending := tuning.get("_ending") or find_completion(tuning, children, now)) is not None:
        return Step("wind_down", ending) if running else Step("end", ending)
    limits = tuning["HyperParameterTuningJobConfig"]["ResourceLimits"]
    if len(children) < count_most_children(tuning):
        return Step("launch" if running < limits["MaxParallelTrainingJobs"] else "wait")
    if running:
        return Step("wait")
    succeeded = any(judge_objective(child) == "Succeeded" for child in children)
    return Step("end") if succeeded else Step("end", "Failed", ALL_FAILED)


def find_completion(tuning: Record, children: Sequence[Record], now: datetime) -> str | None:
    """Return the status with which a completion criterion or the time limit ends the tuning job, or None."""
    config = tuning["HyperParameterTuningJobConfig"]
    longest = config["ResourceLimits"].get("MaxRuntimeInSeconds")
    if longest is not None and (now - tuning["CreationTime"]).total_seconds() >= longest:
        return "Stopped"
    criteria = config.get("TuningJobCompletionCriteria", {})
    maximize = read_objective(tuning)["Type"] == "Maximize"
    target, values = criteria.get("TargetObjectiveMetricValue"), final_values(children)
    best = find_best(maximize, values)
    if target is not None and best is not None:
        reached = values[best]
        if reached is not None and (reached >= target if maximize else reached <= target):
            return "Completed"
    patience = criteria.get("BestObjectiveNotImproving", {}).get("MaxNumberOfTrainingJobsNotImproving")
    if patience is not None and count_not_improving(maximize, children) >= patience:
        return "Completed"
    return None


def count_not_improving(maximize: bool, children: Sequence[Record]) -> int:
    """Count the children that ended with a value after the best one did."""
    ended = sorted((c for c in children if final_value(c) is not None), key=lambda child: child["TrainingEndTime"])
    best = find_best(maximize, final_values(ended))
    return 0 if best is None else len(ended) - 1 - best


def summarise(tuning: Record, children: Sequence[Record], parents: Sequence[Record], now: datetime) -> Record:
    """Return the tuning job's record with its counters, its best training job and the time consumed."""
    maximize = read_objective(tuning)["Type"] == "Maximize"
    summary = {
        "TrainingJobStatusCounters": count_statuses(children),
        "ObjectiveStatusCounters": count_objectives(children),
        "ConsumedResources": {
            "RuntimeInSeconds": sum(
                training_jobs.count_time(child, now).get("TrainingTimeInSeconds", 0) for child in children
            )
        },
        "TuningJobCompletionDetails": {
            "NumberOfTrainingJobsObjectiveNotImproving": count_not_improving(maximize, children)
        },
    }
    if (best := find_best(maximize, final_values(children))) is not None:
        summary["BestTrainingJob"] = summarise_child(tuning, children[best])
    if tuning.get("WarmStartConfig", {}).get("WarmStartType") == "IdenticalDataAndAlgorithm":
        everyone = [*children, *parents]
        if (best := find_best(maximize, final_values(everyone))) is not None:
            summary["OverallBestTrainingJob"] = summarise_child(tuning, everyone[best])
    return tuning | summary


def summarise_child(tuning: Record, child: Record) -> Record:
    """Return a child as HyperParameterTrainingJobSummary."""
    members = load_service("sagemaker").shape_for("HyperParameterTrainingJobSummary").members
    summary = pick(child, members) | {
        "TunedHyperParameters": child["_tuned"],
        "TuningJobName": child["_tuning"],
        "ObjectiveStatus": judge_objective(child),
    }
    if (value := final_value(child)) is not None:
        summary["FinalHyperParameterTuningJobObjectiveMetric"] = {
            **{key: item for key, item in read_objective(tuning).items() if key in ("Type", "MetricName")},
            "Value": value,
        }
    if "DefinitionName" in tuning["TrainingJobDefinition"]:
        summary["TrainingJobDefinitionName"] = tuning["TrainingJobDefinition"]["DefinitionName"]
    return summary


def count_statuses(children: Sequence[Record]) -> dict[str, int]:
    """Return TrainingJobStatusCounters."""
    counters = dict.fromkeys(("Completed", "InProgress", "RetryableError", "NonRetryableError", "Stopped"), 0)
    for child in children:
        status = child["TrainingJobStatus"]
        if status == "Failed":
            internal = child.get("FailureReason", "").startswith("InternalServerError")
            status = "RetryableError" if internal else "NonRetryableError"
        counters[status if status in counters else "InProgress"] += 1
    return counters


def count_objectives(children: Sequence[Record]) -> dict[str, int]:
    """Return ObjectiveStatusCounters."""
    statuses = [judge_objective(child) for child in children]
    return {name: statuses.count(name) for name in ("Succeeded", "Pending", "Failed")}


def judge_objective(child: Record) -> str:
    """Return ObjectiveStatus: Succeeded for a job that ended, not as Failed, with a value of the objective."""
    if not has_ended(child):
        return "Pending"
    return "Succeeded" if final_value(child) is not None else "Failed"


def final_value(child: Record) -> float | None:
    """Return the last value of the objective of an ended child; None for a failed one, and for what is no number."""
    counts = has_ended(child) and child["TrainingJobStatus"] != "Failed" and child["_objective"]
    value = float(child["_objective"][-1][1]) if counts else math.nan
    return value if math.isfinite(value) else None


def final_values(children: Sequence[Record]) -> list[float | None]:
    return [final_value(child) for child in children]


def has_ended(child: Record) -> bool:
    return child["TrainingJobStatus"] in training_jobs.ENDED


def to_trial(child: Record) -> Trial:
    """Return a child as the tuner sees it."""
    values = [value for _, value in child["_objective"]]
    status, lost = child["TrainingJobStatus"], child.get("FailureReason", "").startswith(MACHINES_FAULTS)
    stopped: Any = "stopped" if values else "lost"
    failed: Any = "lost" if lost else "failed"
    state = {"Completed": "finished", "Failed": failed, "Stopped": stopped}.get(status, "running")
    return Trial(child["_tuned"], state, values, child.get("_attributes", {}))


def read_children(cloud: Cloud, name: str) -> list[Record]:
    """Return the records of a tuning job's training jobs, in the order of their numbers."""
    names = [known for known in cloud.store.names(training_jobs.KIND) if known.startswith(f"{name}-")]
    records = [cloud.store.get(training_jobs.KIND, known) for known in names]
    children = [record for record in records if record is not None and record.get("_tuning") == name]
    return sorted(children, key=lambda child: child["_number"])


def save(cloud: Cloud, tuning: Record, *, event: bool) -> None:
    """Store the record. With `event`, send AWS's event of its new state."""
    cloud.store.put(KIND, tuning["HyperParameterTuningJobName"], tuning)
    if event:
        members = find_operation("sagemaker", "DescribeHyperParameterTuningJob").output_shape.members
        emit_change(cloud, TUNING_JOB, tuning["HyperParameterTuningJobArn"], tuning, members)


def _step(cloud: Cloud, name: str) -> tuple[Record, list[Record]] | None:
    """Take the next step unless it is a launch. A launch must not hold the lock, so return what it needs."""
    with cloud.lock:
        tuning = cloud.store.get(KIND, name)
        if tuning is None or tuning["HyperParameterTuningJobStatus"] in ENDED:
            return None
        children, now = read_children(cloud, name), cloud.clock.now()
        parents = [child for parent in _parent_names(tuning) for child in read_children(cloud, parent)]
        tuning = summarise(tuning, children, parents, now)
        step = decide(tuning, children, now)
        if step.kind == "end":
            tuning |= {"HyperParameterTuningJobStatus": step.status, "HyperParameterTuningEndTime": now}
            tuning |= {"FailureReason": step.reason} if step.reason else {}
        elif step.kind == "wind_down":
            tuning["_ending"] = step.status
        if tuning != cloud.store.get(KIND, name):
            save(cloud, tuning | {"LastModifiedTime": now}, event=step.kind == "end")
        if step.kind == "wind_down":
            stop_children(cloud, children)
        return (tuning, children) if step.kind == "launch" else None


def _give_up(cloud: Cloud, name: str, reason: str) -> None:
    """Give up, since no further child can be found: stop the running ones, then end as Failed."""
    with cloud.lock:
        cloud.store.update(KIND, name, lambda tuning: tuning | {"_ending": "Failed", "FailureReason": reason[:1024]})
    cloud.clock.call_later(0, advance, cloud, name)


def stop_children(cloud: Cloud, children: Sequence[Record]) -> None:
    """Ask all running children to end."""
    for child in children:
        stop_job(cloud, child["TrainingJobName"])


def _launch(cloud: Cloud, name: str, number_before: int, tuned: dict[str, str]) -> None:
    with cloud.lock:
        tuning = cloud.store.get(KIND, name)
        if tuning is None or tuning["HyperParameterTuningJobStatus"] != "InProgress":
            return
        arn, number = tuning["HyperParameterTuningJobArn"], number_before + 1
        private = {
            "TuningJobArn": arn,
            "_tuning": name,
            "_tuned": tuned,
            "_number": number,
            "_parallel": tuning["HyperParameterTuningJobConfig"]["ResourceLimits"]["MaxParallelTrainingJobs"],
        }
        spot = tuning["TrainingJobDefinition"].get("EnableManagedSpotTraining", False)
        faults, tags = cloud.faults(), read_tags(cloud, arn)
        lacking, own = faults.list_lacking(spot=spot), faults.tuning_checkpoints == "appended"
        request = build_child_request(tuning, number, tuned, tags, lacking, own_checkpoints=own)
        begin_training_job(cloud, request, private)


def _judge_children(cloud: Cloud, name: str) -> None:
    """Stop the running children that the strategy rejects, by the values since the last look."""
    tuning = cloud.store.get(KIND, name)
    if tuning is None or tuning["HyperParameterTuningJobStatus"] != "InProgress":
        return
    config = tuning["HyperParameterTuningJobConfig"]
    if config["Strategy"] != "Hyperband" and config.get("TrainingJobEarlyStoppingType", "Off") != "Auto":
        return
    children = read_children(cloud, name)
    for index, child in enumerate(children):
        if child["TrainingJobStatus"] == "InProgress" and child.get("_judged", 0) < len(child["_objective"]):
            children[index] = _judge_child(cloud, tuning, children, index)


def _judge_child(cloud: Cloud, tuning: Record, children: Sequence[Record], index: int) -> Record:
    child, search = children[index], read_search(tuning)
    values = [value for _, value in child["_objective"]]
    hopeless = False
    for steps in range(child.get("_judged", 0) + 1, len(values) + 1):
        if search.strategy == "Hyperband":
            trials = [to_trial(other) for other in (*children[:index], child, *children[index + 1 :])]
            hopeless, child["_attributes"] = judge_hyperband(search, trials, index, steps, _read_parents(cloud, tuning))
        else:
            previous = [[v for _, v in c["_objective"]] for c in children if c["TrainingJobStatus"] == "Completed"]
            hopeless = judge_median(search.maximize, values[:steps], previous)
        child["_judged"] = steps
        if hopeless:
            break
    notes = pick(child, ("_judged", "_attributes"))
    with cloud.lock:
        cloud.store.update(training_jobs.KIND, child["TrainingJobName"], lambda job: job | notes)
        if hopeless:
            stop_job(cloud, child["TrainingJobName"])
    return child


def _read_parents(cloud: Cloud, tuning: Record) -> list[Trial]:
    return [to_trial(child) for name in _parent_names(tuning) for child in read_children(cloud, name)]


def _parent_names(tuning: Record) -> list[str]:
    parents = tuning.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", [])
    return [parent["HyperParameterTuningJobName"] for parent in parents]
