"""Serve the operations of training jobs, and keep the record that a runner's reports move from Starting to its end.

A record is DescribeTrainingJob's answer. Private members begin with `_`: `_objective` holds [seconds since the start
of training, value] for every value of a tuning job's objective. `_tuning` is the name of that tuning job, and `_tuned`
holds the hyperparameters that it chose. `_parallel` is the number of jobs that share the machine by design.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from localcloud.common.store import Record
from localcloud.protocol.errors import ResourceInUse, Unsupported, ValidationException
from localcloud.protocol.service_model import find_operation
from localcloud.sagemaker.core import unsupported
from localcloud.sagemaker.core.cloud import Cloud, Outcome, Request, Response, operation
from localcloud.sagemaker.core.events import TRAINING_JOB, emit_change
from localcloud.sagemaker.core.listing import list_page
from localcloud.sagemaker.core.quotas import check_training_quota
from localcloud.sagemaker.core.tags import drop_tags, put_tags
from localcloud.sagemaker.training.channels import check_channels
from localcloud.sagemaker.training.requests import (
    DEFAULT_MAX_RUNTIME,
    check_definition,
    check_resources,
    complete_debugging,
)
from localcloud.sagemaker.training.rule_statuses import describe_rules

KIND = "training-job"
ENDED = ("Completed", "Failed", "Stopped")
SPOT_SHARE = 0.4  # of the on-demand price: what spot instances cost here
ON_INSTANCES = ("Downloading", "Training", "Uploading", "Stopping")
OBJECTIVE_PARAMETER = "_tuning_objective_metric"
MESSAGES = {
    "Starting": "Starting the training job",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Interrupted": "The managed spot instance was interrupted; the training job waits for another one",
    "Stopping": "Stopping the training job",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job exceeded MaxWaitTimeInSeconds provided",
}
Listener = Callable[[Cloud, Record], None]
_LISTENERS: list[Listener] = []


@dataclass(frozen=True)
class JobReport:
    """What a job runner reports on one job, from any thread. Reports after `finish` are ignored."""

    cloud: Cloud
    name: str

    def enter_stage(self, secondary: str, message: str | None = None) -> None:
        """Report that the job is now Starting (waiting for cores), Downloading, Training or Uploading."""
        _change(self.cloud, self.name, lambda job, now: enter_stage(job, secondary, message, now), event=True)

    def add_metrics(self, points: Iterable[tuple[str, float]]) -> None:
        """Report values just found in the log, in their order: pairs of metric name and value."""
        found = list(points)
        _change(self.cloud, self.name, lambda job, now: add_metrics(job, found, now), event=False)

    def finish(self, outcome: Outcome) -> None:
        """Report that the job has ended, and that its artifacts are uploaded."""
        _change(self.cloud, self.name, lambda job, now: finish(job, outcome, now), event=True)


def listen(listener: Listener) -> Listener:
    """Register a function that is called with a job's record after each change, under the cloud's lock."""
    _LISTENERS.append(listener)
    return listener


@operation
def create_training_job(cloud: Cloud, request: Request) -> Response:
    """Begin a training job. Raises ResourceInUse if the name is taken."""
    unsupported.refuse_unsupported(request, unsupported.TRAINING_JOB)
    check_resources(request)
    check_definition(cloud.region, request, request.get("HyperParameters", {}))
    check_channels(cloud, request)
    check_training_quota(cloud, request)
    return {"TrainingJobArn": begin_training_job(cloud, request)["TrainingJobArn"]}


@operation
def describe_training_job(cloud: Cloud, request: Request) -> Response:
    """Describe a training job."""
    job = require_job(cloud, request["TrainingJobName"])
    return {**show(job), **count_time(job, cloud.clock.now()), **describe_rules(cloud, job)}


@operation
def list_training_jobs(cloud: Cloud, request: Request) -> Response:
    """Return a page of summaries, filtered by name, times and status."""
    if "WarmPoolStatusEquals" in request or "TrainingPlanArnEquals" in request:
        raise Unsupported("The local cloud has no warm pools and no training plans to filter by")
    page, token = list_page(
        cloud.store.list(KIND),
        request,
        name="TrainingJobName",
        sort_keys={"Name": "TrainingJobName", "CreationTime": "CreationTime", "Status": "TrainingJobStatus"},
        sort_by="CreationTime",
        status="TrainingJobStatus",
    )
    members = find_operation("sagemaker", "ListTrainingJobs").output_shape.members["TrainingJobSummaries"].member
    return {"TrainingJobSummaries": [pick(job, members.members) for job in page], "NextToken": token}


@operation
def stop_training_job(cloud: Cloud, request: Request) -> Response:
    """Ask a job to end. What it has made by then is kept."""
    job = require_job(cloud, request["TrainingJobName"])
    if job["TrainingJobStatus"] in ENDED:
        raise ValidationException(
            f"The request was rejected because the training job is in status {job['TrainingJobStatus']}."
        )
    stop_job(cloud, job["TrainingJobName"])
    return {}


@operation
def delete_training_job(cloud: Cloud, request: Request) -> Response:
    """Delete an ended job. Its name can be used again."""
    job = require_job(cloud, request["TrainingJobName"])
    if job["TrainingJobStatus"] not in ENDED:
        raise ResourceInUse(
            f"Training job {job['TrainingJobName']} is in status {job['TrainingJobStatus']}; only ended ones can be "
            "deleted."
        )
    tuning = cloud.store.get("hyper-parameter-tuning-job", job.get("_tuning", ""))
    if tuning is not None and tuning["HyperParameterTuningJobStatus"] in ("InProgress", "Stopping"):
        raise ResourceInUse(f"Training job {job['TrainingJobName']} belongs to a tuning job that is under way.")
    cloud.store.delete(KIND, job["TrainingJobName"])
    drop_tags(cloud, job["TrainingJobArn"])
    return {}


def begin_training_job(cloud: Cloud, request: Request, private: Record | None = None) -> Record:
    """Record the job, send its event, and start it. `private` holds further members of the record."""
    with cloud.lock:
        name = request["TrainingJobName"]
        arn = cloud.arn(KIND, name)
        if find_job(cloud, name) is not None:
            raise ResourceInUse(
                "Training job names must be unique within an AWS account and region, and a training job with this "
                f"name already exists ({arn})"
            )
        put_tags(cloud, arn, request.get("Tags"))
        job = build_record(request, arn, cloud.clock.now()) | (private or {})
        save(cloud, job, event=True)
        cloud.jobs.start(job, JobReport(cloud, name))
        return job


def stop_job(cloud: Cloud, name: str) -> None:
    """Set a running job to Stopping, and ask its runner to end it. Ended and stopping jobs are left alone."""
    with cloud.lock:
        job = cloud.store.get(KIND, name)
        if job is not None and job["TrainingJobStatus"] == "InProgress":
            _change(cloud, name, begin_stop, event=True)
            cloud.jobs.stop(name)


def resume_training_jobs(cloud: Cloud) -> None:
    """After a restart, give the jobs that had not ended to the runner: it ends those that were being stopped."""
    for job in cloud.store.list(KIND):
        if job["TrainingJobStatus"] not in ENDED:
            cloud.jobs.start(job, JobReport(cloud, job["TrainingJobName"]))


def find_job(cloud: Cloud, name: str) -> Record | None:
    """Return the job's record, or None. Names are compared without case."""
    wanted = name.lower()
    known = next((known for known in cloud.store.names(KIND) if known.lower() == wanted), None)
    return cloud.store.get(KIND, known) if known is not None else None


def require_job(cloud: Cloud, name: str) -> Record:
    """Return the job's record. Raises ValidationException if there is none, as SageMaker does for training jobs."""
    job = find_job(cloud, name)
    if job is None:
        raise ValidationException("Requested resource not found.")
    return job


def build_record(request: Request, arn: str, now: datetime) -> Record:
    """Return the record of a new job: InProgress, Starting."""
    output = request["OutputDataConfig"]["S3OutputPath"].rstrip("/")
    return {
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
        **complete_debugging({key: value for key, value in request.items() if key != "Tags"}),
        "StoppingCondition": {"MaxRuntimeInSeconds": DEFAULT_MAX_RUNTIME} | request.get("StoppingCondition", {}),
        "TrainingJobArn": arn,
        "ModelArtifacts": {"S3ModelArtifacts": f"{output}/{request['TrainingJobName']}/output/model.tar.gz"},
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Starting",
        "CreationTime": now,
        "LastModifiedTime": now,
        "SecondaryStatusTransitions": [
            {"Status": "Starting", "StartTime": now, "StatusMessage": MESSAGES["Starting"]},
        ],
        "_objective": [],
    }


def enter_stage(job: Record, secondary: str, message: str | None, now: datetime) -> Record | None:
    """Return the job in its next stage; None if it is being stopped or has ended, which no stage undoes."""
    if job["TrainingJobStatus"] != "InProgress":
        return None
    if secondary in ("Downloading", "Training"):
        job.setdefault("TrainingStartTime", now)
    return _move(job, secondary, message, now)


def begin_stop(job: Record, now: datetime) -> Record:
    """Return the job on its way to Stopped."""
    job["TrainingJobStatus"] = "Stopping"
    return _move(job, "Stopping", None, now)


def add_metrics(job: Record, points: list[tuple[str, float]], now: datetime) -> Record | None:
    """Return the job with its metrics' last values and the objective's history."""
    if job["TrainingJobStatus"] in ENDED or not points:
        return None
    last = {metric["MetricName"]: metric for metric in job.get("FinalMetricDataList", [])}
    objective = job.get("HyperParameters", {}).get(OBJECTIVE_PARAMETER)
    seconds = (now - job.get("TrainingStartTime", now)).total_seconds()
    for name, value in points:
        last[name] = {"MetricName": name, "Value": value, "Timestamp": now}
        if name == objective:
            job["_objective"].append([seconds, value])
    return job | {"FinalMetricDataList": list(last.values())}


def finish(job: Record, outcome: Outcome, now: datetime) -> Record | None:
    """Return the ended job; None if it had ended before. A stopping job can only end Stopped or Failed."""
    if job["TrainingJobStatus"] in ENDED:
        return None
    if job["TrainingJobStatus"] == "Stopping" and outcome.status == "Completed":
        outcome = Outcome("Stopped")
    job["TrainingJobStatus"] = outcome.status
    job["TrainingEndTime"] = now
    if outcome.reason:
        job["FailureReason"] = outcome.reason[:1024]
    job = _move(job, outcome.secondary or outcome.status, None, now)
    job["SecondaryStatusTransitions"][-1]["EndTime"] = now
    return job | count_time(job, now)


def count_time(job: Record, now: datetime) -> Record:
    """Return TrainingTimeInSeconds and BillableTimeInSeconds, once training has begun. Seconds are rounded up.

    For a spot job only the stages on an instance are billable, and only the price's share of their seconds counts:
    SageMaker shows the saving as fewer seconds.
    """
    if "TrainingStartTime" not in job:
        return {}
    seconds = math.ceil((job.get("TrainingEndTime", now) - job["TrainingStartTime"]).total_seconds())
    billable = math.ceil(SPOT_SHARE * _count_running(job, now)) if job["EnableManagedSpotTraining"] else seconds
    return {"TrainingTimeInSeconds": max(1, seconds), "BillableTimeInSeconds": max(1, billable)}


def _count_running(job: Record, now: datetime) -> float:
    stages = [stage for stage in job["SecondaryStatusTransitions"] if stage["Status"] in ON_INSTANCES]
    return float(sum((stage.get("EndTime", now) - stage["StartTime"]).total_seconds() for stage in stages))


def show(record: Record) -> Record:
    """Return the record without its private members."""
    return {key: value for key, value in record.items() if not key.startswith("_")}


def pick(record: Record, members: Iterable[str]) -> Record:
    """Return these members of the record, where it has them."""
    return {name: record[name] for name in members if name in record}


def save(cloud: Cloud, job: Record, *, event: bool) -> None:
    """Store the record, send AWS's event if its state has changed, and call the listeners."""
    cloud.store.put(KIND, job["TrainingJobName"], job)
    if event:
        members = find_operation("sagemaker", "DescribeTrainingJob").output_shape.members
        emit_change(cloud, TRAINING_JOB, job["TrainingJobArn"], job, members)
    for listener in _LISTENERS:
        listener(cloud, job)


def _move(job: Record, secondary: str, message: str | None, now: datetime) -> Record:
    transitions: list[dict[str, Any]] = job["SecondaryStatusTransitions"]
    if transitions[-1]["Status"] == secondary:
        transitions[-1]["StatusMessage"] = message or MESSAGES[secondary]
    else:
        transitions[-1]["EndTime"] = now
        transitions.append(
            {"Status": secondary, "StartTime": now, "StatusMessage": message or MESSAGES.get(secondary, secondary)}
        )
    return job | {"SecondaryStatus": secondary, "LastModifiedTime": now}


def _change(cloud: Cloud, name: str, change: Callable[[Record, datetime], Record | None], *, event: bool) -> None:
    with cloud.lock:
        job = cloud.store.get(KIND, name)
        changed = change(job, cloud.clock.now()) if job is not None else None
        if changed is not None:
            save(cloud, changed, event=event)
