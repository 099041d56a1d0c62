"""Build SageMaker's requests for a run's tuning and training jobs, as plain dictionaries. Pure.

These requests define the contract of a job: a channel `dataset` with the run's pinned zip, an optional channel
`weights`, for the final training what it compares its model with (`trial`, `live_model`, `live_dataset`), a checkpoint
folder mirrored to the run's `jobs/`, script mode, and metrics printed as `valid:score=0.93`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from types import MappingProxyType
from typing import Any

from chalicelib.costs.allowances import fit_trials
from chalicelib.costs.plans import RETRIES, read_limits
from chalicelib.recipes.instances import count_processes, has_gpu, has_own_disk
from chalicelib.recipes.resolving import Recipe
from chalicelib.requests.debugger import build_debugger_blocks
from chalicelib.requests.hyperparameters import build_hyperparameters, split_ranges
from chalicelib.requests.serving import build_network
from chalicelib.runs.identity import Run
from chalicelib.runs.tags import build_tags
from chalicelib.settings import Settings

# SageMaker takes at most 40 definitions. Standard error and counts are what the control plane needs of a trial: it may
# be stopped before it could leave a file, and AWS documents nowhere where a trial's checkpoints go.
SPLIT_METRICS = {
    "train": ("loss", "accuracy", "images", "classes"),
    "valid": ("loss", "accuracy", "macro_f1", "macro_recall", "lowest_recall", "score", "standard_error", "images"),
    "test": ("accuracy", "macro_precision", "macro_recall", "macro_f1"),
}
LAUNCHER = "sagemaker_torch_distributed_enabled"  # read by the toolkit, and known to no other program
NUMBER = "([-+0-9.eE]+)"
OURS_TO_DROP = "_tuning_objective_metric"  # SageMaker adds it to each trial's hyperparameters

Request = dict[str, Any]


@dataclass(frozen=True)
class Sources:
    """What the final training compares its model with: URIs by channel, and the hyperparameters that name their owners.

    A live run that is named without a channel is one whose files are gone.
    """

    channels: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=lambda: {"trial_job": "", "live_run": ""})


def build_tuning_request(run: Run, recipe: Recipe, settings: Settings, *, at_once: int | None = None) -> Request:
    """Build CreateHyperParameterTuningJob for a run's trials, of which `at_once` run at a time."""
    at_once = at_once or fit_trials(recipe, settings)
    limits = {
        "MaxNumberOfTrainingJobs": recipe.trials,
        "MaxParallelTrainingJobs": at_once,
        "MaxRuntimeInSeconds": stretch_tuning(run, recipe, fit_trials(recipe, settings) / at_once),
    }
    fixed, ranges = split_ranges(recipe)
    config: Request = {
        "Strategy": recipe.strategy,
        "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": f"valid:{recipe.goal}"},
        "ResourceLimits": limits,
        "ParameterRanges": ranges,
        "TrainingJobEarlyStoppingType": recipe.early_stopping,
        "RandomSeed": recipe.seed,
    }
    if recipe.strategy == "Hyperband":
        resource = {"MinResource": 1, "MaxResource": recipe.epochs}
        config["StrategyConfig"] = {"HyperbandStrategyConfig": resource}
    types, allowed = recipe.instance_types.trial or settings.trial_instance_types, read_limits(run, recipe)
    definition = {
        **_describe_job(run, settings, types[0]),
        **_build_trial_machines(settings, types),
        **_build_limits(recipe, settings, allowed.trial, allowed.wait),
        "StaticHyperParameters": build_hyperparameters(run, recipe, settings, profile=False, max_runtime=allowed.trial)
        | fixed,
        "RetryStrategy": {"MaximumRetryAttempts": RETRIES},
    }
    return {
        "HyperParameterTuningJobName": run.run_id,
        "HyperParameterTuningJobConfig": config,
        "TrainingJobDefinition": definition,
        "Tags": build_tags(run, settings),
    }


def stretch_tuning(run: Run, recipe: Recipe, times: float) -> int:
    """Return the tuning job's time limit if its trials run on this many times fewer machines than its cost assumes.

    The same machine hours cost the same. The limit that the recipe sets stays the most.
    """
    return min(ceil(read_limits(run, recipe).tuning * times), recipe.max_runtime_seconds.tuning)


def build_training_request(
    run: Run,
    recipe: Recipe,
    settings: Settings,
    best: dict[str, str],
    *,
    number: int = 1,
    instance_type: str | None = None,
    sources: Sources = Sources(),
) -> Request:
    """Build CreateTrainingJob for the profiled training, with the best trial's hyperparameters.

    `number` is the attempt's number and `instance_type` its machine: if AWS has no machine of one type, the next
    attempt uses another.
    """
    fixed, _ = split_ranges(recipe)
    tuned = {name: value for name, value in best.items() if name != OURS_TO_DROP}
    instance_type = instance_type or (recipe.instance_types.training or settings.training_instance_types)[0]
    allowed = read_limits(run, recipe)
    return {
        **_describe_job(run, settings, instance_type, sources.channels),
        **build_debugger_blocks(run, settings),
        **_build_limits(recipe, settings, allowed.training, allowed.wait),
        "ResourceConfig": _build_machine(settings, instance_type, recipe.instance_count)
        | _build_volume_key(settings, (instance_type,)),
        "TrainingJobName": run.name_training(number),
        "HyperParameters": build_hyperparameters(run, recipe, settings, profile=True, max_runtime=allowed.training)
        | fixed
        | tuned
        | sources.names
        | _choose_launcher(instance_type, recipe.instance_count),
        "RetryStrategy": {"MaximumRetryAttempts": RETRIES},
        "Tags": build_tags(run, settings),
    }


def _describe_job(
    run: Run, settings: Settings, instance_type: str, more_channels: Mapping[str, str] = MappingProxyType({})
) -> Request:
    """Build what a trial's definition and a training job's request have in common."""
    metrics = [
        {"Name": f"{split}:{name}", "Regex": f"{split}:{name}={NUMBER}"}
        for split, names in SPLIT_METRICS.items()
        for name in names
    ]
    key = {"KmsKeyId": settings.kms_key_arn} if settings.kms_key_arn else {}
    return {
        "AlgorithmSpecification": {
            "TrainingImage": settings.training_image_gpu if has_gpu(instance_type) else settings.training_image_cpu,
            "TrainingInputMode": "File",
            "MetricDefinitions": metrics,
        },
        "RoleArn": settings.execution_role_arn,
        "InputDataConfig": _build_channels(run, settings, more_channels),
        "OutputDataConfig": {"S3OutputPath": f"{run.uri}output/"} | key,
        "CheckpointConfig": {"S3Uri": f"{run.uri}jobs/", "LocalPath": "/opt/ml/checkpoints"},
        **build_network(settings),
    }


def _build_limits(recipe: Recipe, settings: Settings, seconds: int, wait: int) -> Request:
    """Limit how long a job may run and, on spot machines, how long it may wait and run altogether."""
    stopping = {"MaxRuntimeInSeconds": seconds}
    if not (settings.use_spot and recipe.spot):
        return {"StoppingCondition": stopping}
    return {
        "StoppingCondition": stopping | {"MaxWaitTimeInSeconds": seconds + wait},
        "EnableManagedSpotTraining": True,
    }


def _build_trial_machines(settings: Settings, types: tuple[str, ...]) -> Request:
    """Build the trials' machines: of several types, SageMaker takes the first that is available."""
    machines, key = [_build_machine(settings, each) for each in types], _build_volume_key(settings, types)
    if len(machines) == 1:
        return {"ResourceConfig": machines[0] | key}
    preferred = {"AllocationStrategy": "Prioritized", "InstanceConfigs": machines}
    return {"HyperParameterTuningResourceConfig": preferred | key}


def _build_machine(settings: Settings, instance_type: str, count: int = 1) -> Request:
    return {"InstanceType": instance_type, "InstanceCount": count, "VolumeSizeInGB": settings.volume_gb}


def _choose_launcher(instance_type: str, count: int) -> dict[str, str]:
    """Let SageMaker's toolkit start the program with torchrun where several GPUs or machines train together."""
    return {LAUNCHER: "true"} if count_processes(instance_type, count) > 1 else {}


def _build_volume_key(settings: Settings, types: tuple[str, ...]) -> Request:
    """Build the key for the volumes. SageMaker refuses a key for a machine whose own disk encrypts itself."""
    if not settings.kms_key_arn or any(has_own_disk(each) for each in types):
        return {}
    return {"VolumeKmsKeyId": settings.kms_key_arn}


def _build_channels(run: Run, settings: Settings, more: Mapping[str, str]) -> list[Request]:
    weights = {"weights": settings.weights_uri} if settings.weights_uri else {}
    channels = {"dataset": f"{run.uri}input/", **weights, **more}
    return [
        {
            "ChannelName": name,
            "InputMode": "File",
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": uri,
                    "S3DataDistributionType": "FullyReplicated",
                }
            },
        }
        for name, uri in channels.items()
    ]
