"""Observe a run: what the bucket and SageMaker say about it. Each stage reads only what it needs."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from chalicelib.aws.sagemaker import Kind
from chalicelib.costs.ledgers import see_room
from chalicelib.pipeline.decisions import UNDER_WAY
from chalicelib.runs.identity import Run
from chalicelib.runs.observation import FOREIGN, Endpoint, Observation, Training, Trial, Tuning
from chalicelib.services import Services


def observe(run: Run, services: Services) -> Observation:
    """Return what is seen of a run at this moment."""
    files = frozenset(services.runs.list_files(run.run_id))

    def read(name: str) -> dict[str, Any] | None:
        return services.runs.read_file(run.run_id, name) if name in files else None

    seen: dict[str, Any] = {"dataset": read("dataset.json"), "stop": read("stop.json"), "result": read("result.json")}
    if run.cost is None and seen["dataset"]:
        run = services.runs.get(run.run_id)  # the cost is added to run.json after the dataset was checked
    seen["waiting"] = None if seen["result"] else read("waiting.json")
    # A run that a person stopped is observed a while longer: a job may have been launched at the same moment.
    is_over = bool(seen["result"]) and seen["result"]["status"] != "stopped"
    if not is_over and "dataset.json" in files and "tuning.json" not in files:
        seen["tuning"] = see_tuning(run, services)
        if seen["tuning"] is None and not seen["result"] and run.cost and not run.cost.get("problem"):
            seen["room"] = see_room(run, services)
    if not is_over and "tuning.json" in files and "decision.json" not in files:
        seen["tuned"] = read("tuning.json")
        seen["training"] = see_training(run, services)
        seen["trial_evaluation"] = read_evaluation(run, seen["tuned"]["best"]["name"], services)
    if not seen["result"] and "decision.json" in files:
        seen["decision"] = read("decision.json")
        seen["endpoint"] = endpoint = see_endpoint(run.endpoint, services)
        seen["rival"] = _find_rival(run, endpoint, services)
        seen["machine"] = _find_machine(run, files, services)
    return Observation(run=run, now=services.clock.now(), files=files, **seen)


def see_tuning(run: Run, services: Services) -> Tuning | None:
    """Return the run's tuning job, with its trials once it has ended, or None if there is none yet."""
    job = services.sagemaker.describe(Kind.TUNING_JOB, run.run_id)
    if job is None:
        return None
    if not _is_of(run, job.get("TrainingJobDefinition", {})):
        return Tuning(FOREIGN)
    status = job["HyperParameterTuningJobStatus"]
    return Tuning(
        status=status,
        best=job.get("BestTrainingJob", {}).get("TrainingJobName"),
        trials=() if status in UNDER_WAY else see_trials(run, services),
        reason=job.get("FailureReason"),
        at_once=job.get("HyperParameterTuningJobConfig", {}).get("ResourceLimits", {}).get("MaxParallelTrainingJobs"),
    )


def _is_of(run: Run, job: dict[str, Any]) -> bool:
    """Return whether a job writes to this run's folder: a stranger's job may have the same name."""
    return bool(job.get("OutputDataConfig", {}).get("S3OutputPath", "").startswith(run.uri))


def see_trials(run: Run, services: Services, *, most: int | None = None) -> tuple[Trial, ...]:
    """List the tuning job's own children, oldest first. Only a trial's own description says what is billed for it.

    Each description is one call. At most `most` trials that have begun are described, the oldest first.
    """
    listed = services.sagemaker.list_trials(run.run_id)
    begun = [each["TrainingJobName"] for each in listed if each.get("TrainingStartTime")][:most]
    details = {name: services.sagemaker.describe(Kind.TRAINING_JOB, name) or {} for name in begun}
    return tuple(_read_trial(each, details.get(each["TrainingJobName"], {})) for each in listed)


def _read_trial(job: dict[str, Any], detail: dict[str, Any]) -> Trial:
    return Trial(
        billable_seconds=detail.get("BillableTimeInSeconds"),
        instance_type=detail.get("ResourceConfig", {}).get("InstanceType"),
        name=job["TrainingJobName"],
        status=job["TrainingJobStatus"],
        hyperparameters=dict(job["TunedHyperParameters"]),
        objective=job.get("FinalHyperParameterTuningJobObjectiveMetric", {}).get("Value"),
        reason=job.get("FailureReason"),
        started_at=job.get("TrainingStartTime"),
        ended_at=job.get("TrainingEndTime"),
    )


def see_training(run: Run, services: Services) -> Training | None:
    """Return the run's training job, with its evaluation once it has ended, or None if there is none yet.

    If AWS had no machine for a try and another was made on the next instance type, the last try counts.
    """
    tries = see_trainings(run, services)
    if not tries:
        return None
    last = tries[-1]
    is_over = last.status not in (*UNDER_WAY, FOREIGN)
    return replace(last, evaluation=read_evaluation(run, last.name, services) if is_over else None)


def see_trainings(run: Run, services: Services) -> list[Training]:
    """List every try of the last training: one more than the tries for which AWS had no machine."""
    tries: list[Training] = []
    while not tries or tries[-1].is_out_of_capacity:
        number = len(tries) + 1
        job = services.sagemaker.describe(Kind.TRAINING_JOB, run.name_training(number))
        if job is None:
            break
        tries.append(_read_training(run, job, number))
    return tries


def _read_training(run: Run, job: dict[str, Any], number: int) -> Training:
    name = run.name_training(number)
    if not _is_of(run, job):
        return Training(FOREIGN, name=name, number=number)
    return Training(
        status=job["TrainingJobStatus"],
        reason=job.get("FailureReason"),
        started_at=job.get("TrainingStartTime"),
        ended_at=job.get("TrainingEndTime"),
        name=name,
        number=number,
        billable_seconds=job.get("BillableTimeInSeconds"),
        instance_type=job.get("ResourceConfig", {}).get("InstanceType"),
    )


def read_evaluation(run: Run, job: str, services: Services) -> dict[str, Any] | None:
    """Read what a job measured of its best checkpoint, or None if it left nothing."""
    stored = services.runs.read_job_file(run.run_id, job, "evaluation.json")
    return stored.as_json() if stored else None


def see_endpoint(name: str, services: Services) -> Endpoint | None:
    """Return the endpoint of this name, or None."""
    endpoint = services.sagemaker.describe(Kind.ENDPOINT, name)
    if endpoint is None:
        return None
    return Endpoint(
        status=endpoint["EndpointStatus"],
        config=endpoint.get("EndpointConfigName"),
        pending=endpoint.get("PendingDeploymentSummary", {}).get("EndpointConfigName"),
        reason=endpoint.get("FailureReason"),
    )


def _find_machine(run: Run, files: frozenset[str], services: Services) -> str | None:
    """Return the instance type that was last asked for; None for a serverless endpoint."""
    if not run.list_pinned_types("endpoint"):
        return None
    asked = sorted((name for name in files if name.startswith(("deployment", "no-machine-"))), key=_order_of_asking)
    last = services.runs.read_file(run.run_id, asked[-1]) if asked else None
    return (last or {}).get("instance_type")


def _order_of_asking(name: str) -> tuple[int, bool]:
    """Order the files by time: deployment.json, no-machine-1.json, deployment-2.json, and so on."""
    number = re.search(r"\d+", name)
    return (int(number[0]) if number else 1, name.startswith("no-machine-"))


def _find_rival(run: Run, endpoint: Endpoint | None, services: Services) -> str | None:
    """Return the newer run that the endpoint serves or will serve, or None. A config has its run's name."""
    if endpoint is None or endpoint.status in ("Failed", "Deleting", "OutOfService"):
        return None
    for name in (endpoint.pending, endpoint.config):
        if name and name != run.run_id:
            other = services.runs.find(name)
            if other and other.order > run.order:
                return other.run_id
    return None
