"""Observe a run: what the bucket and SageMaker say about it. Each stage reads only what it needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from chalicelib.aws.buckets import Stored
from chalicelib.aws.sagemaker import Kind
from chalicelib.costs.ledgers import see_room
from chalicelib.errors import RunNotFound
from chalicelib.models.choosing import MEASURED, rank_trials, read_metrics
from chalicelib.recipes.imbalance import settle_by_counts
from chalicelib.recipes.resolving import resolve_recipe
from chalicelib.requests.jobs import Sources
from chalicelib.runs.changes import Version
from chalicelib.runs.identity import Run
from chalicelib.runs.observation import (
    APPROVAL,
    FOREIGN,
    RESULT,
    SECOND_RESULT,
    UNDER_WAY,
    Endpoint,
    Observation,
    Training,
    Trial,
    Tuning,
    is_watched,
)
from chalicelib.services import Services

JUDGED = ("comparison", "baseline")
NOT_SERVING = ("Failed", "Deleting", "OutOfService")
DISK_SHARE = 0.7  # of a machine's volume may be zips of datasets: a job writes features and checkpoints too


def observe(run: Run, services: Services) -> Observation:
    """Return what is seen of a run at this moment."""
    files = frozenset(services.runs.list_files(run.run_id))
    if "run.json" not in files:
        raise RunNotFound(f"The run {run.run_id} was removed with its dataset.")

    def read(name: str, *, may_go: bool = False) -> dict[str, Any] | None:
        document = services.runs.read_file(run.run_id, name) if name in files else None
        if name in files and document is None and not may_go:
            raise RunNotFound(f"The run {run.run_id} was removed with its dataset.")
        return document

    seen: dict[str, Any] = {"dataset": read("dataset.json"), "stop": read("stop.json")}
    seen["result"] = read(SECOND_RESULT if APPROVAL in files else RESULT)
    if run.cost is None and seen["dataset"]:
        run = services.runs.get(run.run_id)  # the cost is added to run.json after the dataset was checked
    if seen["dataset"]:
        run = settle_recipe(run, seen["dataset"])
    seen["waiting"] = None if seen["result"] else read("waiting.json", may_go=True)
    seen["trouble"] = read("trouble.json", may_go=True)
    # An ended run is observed a while longer: a job may have been launched at the same moment.
    is_over = bool(seen["result"]) and not is_watched(seen["result"], files)
    if not is_over and "dataset.json" in files and "tuning.json" not in files:
        seen["tuning"] = see_tuning(run, services)
        if seen["tuning"] is None and not seen["result"] and run.cost and not run.cost.get("problem"):
            seen["room"] = see_room(run, services)
    if not is_over and "tuning.json" in files and "decision.json" not in files:
        seen["tuned"] = read("tuning.json")
        seen["training"] = see_training(run, services)
        of_trial = seen["tuned"].get("evaluation")
        seen["trial_evaluation"] = of_trial or read_evaluation(run, seen["tuned"]["best"]["name"], services)
        if seen["training"] and seen["training"].status in MEASURED:
            seen |= _see_comparison(run, seen["training"], services)
    if not seen["result"] and "decision.json" in files:
        seen["decision"] = read("decision.json")
        seen["endpoint"] = endpoint = see_endpoint(run.endpoint, services)
        seen["rival"] = find_rival(run, endpoint, services)
        seen |= _read_last_asking(run, files, services)
    return Observation(run=run, now=services.clock.now(), files=files, **seen)


def count_seconds(seen: Observation, services: Services) -> float:
    """Return the seconds that a run has taken, without those for which it had ended until a person approved it."""
    first = services.runs.read_file(seen.run.run_id, RESULT) if seen.is_approved else None
    approval = services.runs.read_file(seen.run.run_id, APPROVAL) if first else None
    taken = (services.clock.now() - datetime.fromisoformat(seen.run.created_at)).total_seconds()
    if first and approval:
        lain = datetime.fromisoformat(approval["at"]) - datetime.fromisoformat(first["ended_at"])
        taken -= max(0.0, lain.total_seconds())
    return round(taken, 3)


def settle_recipe(run: Run, dataset: Mapping[str, Any]) -> Run:
    """Return a run with what its recipe's `auto` means for its dataset, as pre-flight has counted it."""
    return replace(run, recipe=settle_by_counts(run.recipe, dataset)) if run.recipe else run


def see_versions(seen: Observation, services: Services) -> tuple[Version, Version] | None:
    """Return the live model's version of the dataset and this run's; None if no other model was live."""
    decision = services.runs.read_file(seen.run.run_id, "decision.json") or {}
    other = (decision.get("promotion") or {}).get("compared_with")
    before = services.runs.find(other) if other else None
    if before is None:
        return None
    report, result = (services.runs.read_file(before.run_id, name) or {} for name in ("dataset.json", "result.json"))
    now = describe_version(seen.run, seen.dataset or {}, seen.result or {})
    return describe_version(settle_recipe(before, report), report, result), now


def describe_version(run: Run, report: Mapping[str, Any], result: Mapping[str, Any]) -> Version:
    return Version(run.run_id, report, run.recipe or {}, (result.get("metrics") or {}).get("test") or {})


def see_tuning(run: Run, services: Services) -> Tuning | None:
    """Return the run's tuning job, with its trials once it has ended, or None if there is none yet."""
    job = services.sagemaker.describe(Kind.TUNING_JOB, run.run_id)
    if job is None:
        return None
    if not _is_of(run, job.get("TrainingJobDefinition", {})):
        return Tuning(FOREIGN)
    status, best = job["HyperParameterTuningJobStatus"], job.get("BestTrainingJob", {}).get("TrainingJobName")
    return Tuning(
        status=status,
        best=best,
        trials=() if status in UNDER_WAY else _find_model(see_trials(run, services), best, services),
        reason=job.get("FailureReason"),
        created_at=job.get("CreationTime"),
        at_once=job.get("HyperParameterTuningJobConfig", {}).get("ResourceLimits", {}).get("MaxParallelTrainingJobs"),
    )


def _find_model(trials: tuple[Trial, ...], best: str | None, services: Services) -> tuple[Trial, ...]:
    """Look for the model of each trial, the best one first, until one is there. The others are left without theirs."""
    found = None
    for trial in rank_trials(Tuning("Completed", best, trials)):
        if is_there(trial.model_data, services):
            found = trial.name
            break
    return tuple(trial if trial.name == found else replace(trial, model_data=None) for trial in trials)


def is_there(uri: str | None, services: Services) -> bool:
    """Return whether there is an object of our bucket at a URI."""
    beginning = f"s3://{services.bucket.name}/"
    return bool(uri and uri.startswith(beginning) and services.bucket.describe(uri.removeprefix(beginning)))


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
    return tuple(_read_trial(run, each, details.get(each["TrainingJobName"], {})) for each in listed)


def _read_trial(run: Run, job: dict[str, Any], detail: dict[str, Any]) -> Trial:
    return Trial(
        metrics=_read_metrics(detail),
        model_data=_read_model_data(run, job["TrainingJobName"], detail),
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


def _read_metrics(job: dict[str, Any]) -> dict[str, float]:
    """Return the last value of each metric of a job, as SageMaker describes it."""
    return {each["MetricName"]: float(each["Value"]) for each in job.get("FinalMetricDataList") or []}


def _read_model_data(run: Run, name: str, job: dict[str, Any]) -> str:
    """Return where a job's model is, if it left one: where its description says, else where SageMaker puts it."""
    told = (job.get("ModelArtifacts") or {}).get("S3ModelArtifacts")
    return str(told or f"{run.uri}output/{name}/output/model.tar.gz")


def see_training(run: Run, services: Services) -> Training | None:
    """Return the run's training job, with its evaluation once it has ended, or None if there is none yet.

    If AWS had no machine for a try and another was made on the next instance type, the last try counts.
    """
    tries = see_trainings(run, services)
    if not tries:
        return None
    last = tries[-1]
    if last.status in (*UNDER_WAY, FOREIGN):
        return replace(last, model_data=None)
    has_model = last.status in MEASURED and is_there(last.model_data, services)
    evaluation = read_evaluation(run, last.name, services) or last.evaluation
    return replace(last, evaluation=evaluation, model_data=last.model_data if has_model else None)


def see_trainings(run: Run, services: Services) -> list[Training]:
    """List every try of the final training: one more than the tries for which AWS had no machine."""
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
    metrics = _read_metrics(job)
    objective = resolve_recipe(run.recipe).goal
    return Training(
        evaluation=read_metrics(metrics, metrics.get(f"valid:{objective}")),
        model_data=_read_model_data(run, name, job),
        created_at=job.get("CreationTime"),
        status=job["TrainingJobStatus"],
        reason=job.get("FailureReason"),
        started_at=job.get("TrainingStartTime"),
        ended_at=job.get("TrainingEndTime"),
        name=name,
        number=number,
        billable_seconds=job.get("BillableTimeInSeconds"),
        instance_type=job.get("ResourceConfig", {}).get("InstanceType"),
        instance_count=job.get("ResourceConfig", {}).get("InstanceCount"),
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
        changed_at=endpoint.get("LastModifiedTime"),
    )


def _read_last_asking(run: Run, files: frozenset[str], services: Services) -> dict[str, Any]:
    """Return `machine`, the instance type that was last asked for, and `asked_at`, when, if the answer is still due."""
    asked = sorted((name for name in files if name.startswith(("deployment", "no-machine-"))), key=_order_of_asking)
    last = (services.runs.read_file(run.run_id, asked[-1]) if asked else None) or {}
    is_due = bool(asked) and asked[-1].startswith("deployment")
    machine = last.get("instance_type") if run.list_pinned_types("endpoint") else None
    return {"machine": machine, "asked_at": datetime.fromisoformat(last["at"]) if is_due and "at" in last else None}


def _order_of_asking(name: str) -> tuple[int, bool]:
    """Order the files by time: deployment.json, no-machine-1.json, deployment-2.json, and so on."""
    number = re.search(r"\d+", name)
    return (int(number[0]) if number else 1, name.startswith("no-machine-"))


def _see_comparison(run: Run, training: Training, services: Services) -> dict[str, Any]:
    """Return what the final training found of the model that it left, and which run is live now."""
    stored = {name: services.runs.read_job_file(run.run_id, training.name, f"{name}.json") for name in JUDGED}
    documents = {name: _parse(each) for name, each in stored.items()}
    return {"live": find_live(run, see_endpoint(run.endpoint, services)), **documents}


def _parse(stored: Stored | None) -> dict[str, Any] | None:
    """Return a job's document, or None of one that is not JSON: a job is not trusted to write what it should."""
    try:
        document = stored.as_json() if stored else None
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def find_live(run: Run, endpoint: Endpoint | None) -> str | None:
    """Return the other run that an endpoint serves or soon will, or None. A config has its run's name."""
    if endpoint is None or endpoint.status in NOT_SERVING:
        return None
    name = endpoint.pending or endpoint.config
    return name if name != run.run_id else None


def see_sources(run: Run, tuned: dict[str, Any], services: Services) -> Sources:
    """Return what the final training may compare its model with: only what is there, as AWS takes no empty channel.

    The live run's dataset is left out where it does not fit on the machine's disk beside the run's own.
    """
    best, bucket = tuned["best"]["name"], services.bucket
    trial = tuned.get("model_data")
    live = find_live(run, see_endpoint(run.endpoint, services))
    served = services.runs.find(live) if live else None
    channels = {"trial": trial if is_there(trial, services) else None}
    if served:
        model = (services.runs.read_file(served.run_id, "decision.json") or {}).get("model_data")
        zipped = bucket.describe(f"{served.folder}input/dataset.zip")
        fits = zipped and zipped.size + run.size <= DISK_SHARE * services.settings.volume_gb * 10**9
        channels["live_model"] = model if is_there(model, services) else None
        channels["live_dataset"] = f"{served.uri}input/" if fits else None
    there = {name: uri for name, uri in channels.items() if uri}
    return Sources(there, {"trial_job": best if "trial" in there else "", "live_run": live or ""})


def find_rival(run: Run, endpoint: Endpoint | None, services: Services) -> str | None:
    """Return the newer run that the endpoint serves or will serve, or None. A config has its run's name."""
    if endpoint is None or endpoint.status in NOT_SERVING:
        return None
    for name in (endpoint.pending, endpoint.config):
        if name and name != run.run_id:
            other = services.runs.find(name)
            if other and other.order > run.order:
                return other.run_id
    return None
