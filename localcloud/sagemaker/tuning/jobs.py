"""Serve the operations of hyperparameter tuning jobs. `tuning.progress` moves them."""

from __future__ import annotations

from localcloud.common.store import Record
from localcloud.protocol.errors import ResourceInUse, ResourceNotFound, ValidationException
from localcloud.protocol.service_model import find_operation
from localcloud.sagemaker.core.cloud import Cloud, Request, Response, operation
from localcloud.sagemaker.core.listing import list_page
from localcloud.sagemaker.core.quotas import check_parallel_quota, check_training_quota
from localcloud.sagemaker.core.tags import drop_tags, put_tags
from localcloud.sagemaker.training import jobs as training_jobs
from localcloud.sagemaker.training.jobs import OBJECTIVE_PARAMETER, pick, show
from localcloud.sagemaker.tuning.progress import (
    ENDED,
    KIND,
    advance,
    count_objectives,
    count_statuses,
    final_value,
    read_children,
    save,
    stop_children,
    summarise_child,
)
from localcloud.sagemaker.tuning.requests import check_tuning_request, read_objective


@operation
def create_hyper_parameter_tuning_job(cloud: Cloud, request: Request) -> Response:
    """Begin a tuning job. Raises ResourceInUse if the name is taken; names are compared without case."""
    check_tuning_request(cloud.region, request)
    name = request["HyperParameterTuningJobName"]
    arn = cloud.arn(KIND, name)
    parallel = request["HyperParameterTuningJobConfig"]["ResourceLimits"]["MaxParallelTrainingJobs"]
    check_parallel_quota(cloud, parallel)
    check_training_quota(cloud, request["TrainingJobDefinition"], parallel)
    with cloud.lock:
        if find_tuning_job(cloud, name) is not None:
            raise ResourceInUse(
                "Hyperparameter tuning job names must be unique within an AWS account and region, and a "
                f"hyperparameter tuning job with this name already exists ({arn})"
            )
        _check_parents(cloud, request)
        put_tags(cloud, arn, request.get("Tags"))
        tuning = _build_record(cloud, request, arn)
        save(cloud, tuning, event=True)
    _arrange(cloud, tuning)
    return {"HyperParameterTuningJobArn": arn}


@operation
def describe_hyper_parameter_tuning_job(cloud: Cloud, request: Request) -> Response:
    """Describe a tuning job."""
    return show(require_tuning_job(cloud, request["HyperParameterTuningJobName"]))


@operation
def list_hyper_parameter_tuning_jobs(cloud: Cloud, request: Request) -> Response:
    """Return a page of summaries, filtered by name, times and status."""
    page, token = list_page(
        cloud.store.list(KIND),
        request,
        name="HyperParameterTuningJobName",
        sort_keys={
            "Name": "HyperParameterTuningJobName",
            "Status": "HyperParameterTuningJobStatus",
            "CreationTime": "CreationTime",
        },
        sort_by="Name",
        status="HyperParameterTuningJobStatus",
    )
    shape = find_operation("sagemaker", "ListHyperParameterTuningJobs").output_shape
    members = shape.members["HyperParameterTuningJobSummaries"].member.members
    summaries = [
        pick(job, members)
        | {
            "Strategy": job["HyperParameterTuningJobConfig"]["Strategy"],
            "ResourceLimits": job["HyperParameterTuningJobConfig"]["ResourceLimits"],
        }
        for job in page
    ]
    return {"HyperParameterTuningJobSummaries": summaries, "NextToken": token}


@operation
def list_training_jobs_for_hyper_parameter_tuning_job(cloud: Cloud, request: Request) -> Response:
    """Return a page of a tuning job's training jobs. Sorted by objective, only those that have one."""
    tuning = require_tuning_job(cloud, request["HyperParameterTuningJobName"])
    children = [
        child | {"_final": final_value(child)} for child in read_children(cloud, tuning["HyperParameterTuningJobName"])
    ]
    if request.get("SortBy") == "FinalObjectiveMetricValue":
        children = [child for child in children if child["_final"] is not None]
    page, token = list_page(
        children,
        request,
        name="TrainingJobName",
        sort_keys={
            "Name": "TrainingJobName",
            "CreationTime": "CreationTime",
            "Status": "TrainingJobStatus",
            "FinalObjectiveMetricValue": "_final",
        },
        sort_by="Name",
        status="TrainingJobStatus",
    )
    return {"TrainingJobSummaries": [summarise_child(tuning, child) for child in page], "NextToken": token}


@operation
def stop_hyper_parameter_tuning_job(cloud: Cloud, request: Request) -> Response:
    """Stop a tuning job: launch no more training jobs, and stop those that run."""
    with cloud.lock:
        tuning = require_tuning_job(cloud, request["HyperParameterTuningJobName"])
        status, name = tuning["HyperParameterTuningJobStatus"], tuning["HyperParameterTuningJobName"]
        if status in ENDED:
            raise ValidationException(
                f"The request was rejected because the hyperparameter tuning job is in status {status}."
            )
        if status != "Stopping":
            tuning |= {"HyperParameterTuningJobStatus": "Stopping", "LastModifiedTime": cloud.clock.now()}
            save(cloud, tuning, event=True)
        stop_children(cloud, read_children(cloud, name))
    cloud.clock.call_later(0, advance, cloud, name)
    return {}


@operation
def delete_hyper_parameter_tuning_job(cloud: Cloud, request: Request) -> Response:
    """Delete an ended tuning job. Its training jobs stay."""
    with cloud.lock:
        tuning = require_tuning_job(cloud, request["HyperParameterTuningJobName"])
        if tuning["HyperParameterTuningJobStatus"] not in ENDED:
            raise ResourceInUse(
                f"Hyperparameter tuning job {tuning['HyperParameterTuningJobName']} is in status "
                f"{tuning['HyperParameterTuningJobStatus']}; only ended ones can be deleted."
            )
        cloud.store.delete(KIND, tuning["HyperParameterTuningJobName"])
        drop_tags(cloud, tuning["HyperParameterTuningJobArn"])
    return {}


@training_jobs.listen
def notice_child(cloud: Cloud, job: Record) -> None:
    """Advance the tuning job after every change of one of its training jobs."""
    if "_tuning" in job:
        cloud.clock.call_later(0, advance, cloud, job["_tuning"])


def resume_tuning_jobs(cloud: Cloud) -> None:
    """After a restart, continue every tuning job that had not ended, and its time limit."""
    for tuning in cloud.store.list(KIND):
        if tuning["HyperParameterTuningJobStatus"] not in ENDED:
            _arrange(cloud, tuning)


def find_tuning_job(cloud: Cloud, name: str) -> Record | None:
    """Return the tuning job's record, or None."""
    known = next((known for known in cloud.store.names(KIND) if known.lower() == name.lower()), None)
    return cloud.store.get(KIND, known) if known is not None else None


def require_tuning_job(cloud: Cloud, name: str) -> Record:
    """Return the tuning job's record. Raises ResourceNotFound if there is none."""
    tuning = find_tuning_job(cloud, name)
    if tuning is None:
        raise ResourceNotFound(
            f"Amazon SageMaker can't find a tuning job with the name {name}. Review the name and try your request "
            "again."
        )
    return tuning


def _arrange(cloud: Cloud, tuning: Record) -> None:
    name = tuning["HyperParameterTuningJobName"]
    cloud.clock.call_later(0, advance, cloud, name)
    longest = tuning["HyperParameterTuningJobConfig"]["ResourceLimits"].get("MaxRuntimeInSeconds")
    if longest is not None:
        passed = (cloud.clock.now() - tuning["CreationTime"]).total_seconds()
        cloud.clock.call_later(max(0.0, longest - passed), advance, cloud, name)


def _build_record(cloud: Cloud, request: Request, arn: str) -> Record:
    now = cloud.clock.now()
    definition = request["TrainingJobDefinition"]
    static = definition.get("StaticHyperParameters", {}) | {OBJECTIVE_PARAMETER: read_objective(request)["MetricName"]}
    return {
        **{key: value for key, value in request.items() if key != "Tags"},
        "TrainingJobDefinition": definition | {"StaticHyperParameters": static},
        "HyperParameterTuningJobArn": arn,
        "HyperParameterTuningJobStatus": "InProgress",
        "CreationTime": now,
        "LastModifiedTime": now,
        "TrainingJobStatusCounters": count_statuses([]),
        "ObjectiveStatusCounters": count_objectives([]),
    }


def _check_parents(cloud: Cloud, request: Request) -> None:
    for parent in request.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", []):
        name = parent.get("HyperParameterTuningJobName", "")
        known = find_tuning_job(cloud, name)
        if known is None or known["HyperParameterTuningJobStatus"] not in ENDED:
            found = "does not exist" if known is None else f"is {known['HyperParameterTuningJobStatus']}"
            raise ValidationException(f"The parent tuning job {name!r} {found}; it must have ended.")
