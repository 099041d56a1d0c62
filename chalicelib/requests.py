"""SageMaker's requests for a run, as plain dictionaries. Pure.

The contract of a job, which these requests state, is: channel `dataset` with the run's pinned zip, optional channel
`weights`, the checkpoint folder mirrored to the run's `jobs/`, script mode, and metrics printed as `valid:score=0.93`.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from chalicelib.aws_debugger import build_debugger_blocks
from chalicelib.instances import has_gpu
from chalicelib.plans import RETRIES, read_limits
from chalicelib.recipes import Choices, LogRange, Recipe
from chalicelib.runs import Run
from chalicelib.settings import Settings

SPLIT_METRICS = {
    "train": ("loss", "accuracy"),
    "valid": ("loss", "accuracy", "macro_f1", "score"),
    "test": ("accuracy", "macro_precision", "macro_recall", "macro_f1"),
}
NUMBER = "([-+0-9.eE]+)"
NOT_IN_TAG = re.compile(r"[^\w .:/=+\-@]")
OURS_TO_DROP = "_tuning_objective_metric"  # SageMaker adds it to each trial's hyperparameters
HEALTH_CHECK_SECONDS = 600
SERVER = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}

Request = dict[str, Any]


def build_tags(run: Run, settings: Settings) -> list[dict[str, str]]:
    """The tags on everything that a run makes. SageMaker's tags hold fewer signs than S3's keys."""
    tags = {
        "whippet:app": settings.app_name,
        "whippet:stage": settings.stage,
        "whippet:run": run.run_id,
        "whippet:dataset": make_tag_value(run.dataset),
    }
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def make_tag_value(name: str) -> str:
    return NOT_IN_TAG.sub("_", name)[:256]


def build_tuning_request(run: Run, recipe: Recipe, settings: Settings) -> Request:
    """CreateHyperParameterTuningJob for the trials of a run."""
    limits = {
        "MaxNumberOfTrainingJobs": recipe.trials,
        "MaxParallelTrainingJobs": recipe.parallel_trials,
        "MaxRuntimeInSeconds": read_limits(run, recipe).tuning,
    }
    fixed, ranges = split_ranges(recipe)
    config: Request = {
        "Strategy": recipe.strategy,
        "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": f"valid:{recipe.objective}"},
        "ResourceLimits": limits,
        "ParameterRanges": ranges,
        "TrainingJobEarlyStoppingType": recipe.early_stopping,
        "RandomSeed": recipe.seed,
    }
    if recipe.strategy == "Hyperband":
        resource = {"MinResource": 1, "MaxResource": recipe.epochs}
        config["StrategyConfig"] = {"HyperbandStrategyConfig": resource}
    instance_type = (recipe.instance_types.trial or settings.trial_instance_types)[0]
    definition = _describe_job(run, settings, instance_type, read_limits(run, recipe).trial) | {
        "StaticHyperParameters": _build_hyperparameters(run, recipe, settings, profile=False) | fixed,
        "RetryStrategy": {"MaximumRetryAttempts": RETRIES},
    }
    return {
        "HyperParameterTuningJobName": run.run_id,
        "HyperParameterTuningJobConfig": config,
        "TrainingJobDefinition": definition,
        "Tags": build_tags(run, settings),
    }


def build_training_request(
    run: Run,
    recipe: Recipe,
    settings: Settings,
    best: dict[str, str],
    *,
    number: int = 1,
    instance_type: str | None = None,
) -> Request:
    """CreateTrainingJob for the profiled training, with the hyperparameters of the best trial.

    `number` is that of the try, and `instance_type` its machine: where AWS had none, the next try is on another.
    """
    fixed, _ = split_ranges(recipe)
    tuned = {name: value for name, value in best.items() if name != OURS_TO_DROP}
    instance_type = instance_type or (recipe.instance_types.training or settings.training_instance_types)[0]
    job = _describe_job(run, settings, instance_type, read_limits(run, recipe).training)
    return (
        job
        | build_debugger_blocks(run, settings)
        | {
            "TrainingJobName": run.name_training(number),
            "HyperParameters": _build_hyperparameters(run, recipe, settings, profile=True) | fixed | tuned,
            "RetryStrategy": {"MaximumRetryAttempts": RETRIES},
            "Tags": build_tags(run, settings),
        }
    )


def build_model_request(run: Run, recipe: Recipe, settings: Settings, model_data: str) -> Request:
    """CreateModel for the archive at `model_data`, an S3 URI."""
    types = recipe.instance_types.endpoint or settings.endpoint_instance_types
    on_gpu = recipe.endpoint.kind == "instance" and has_gpu(types[0])
    image = settings.inference_image_gpu if on_gpu else settings.inference_image_cpu
    container = {"Image": image, "ModelDataUrl": model_data, "Environment": dict(SERVER)}
    return {
        "ModelName": run.run_id,
        "PrimaryContainer": container,
        "ExecutionRoleArn": settings.execution_role_arn,
        "Tags": build_tags(run, settings),
    }


def name_variant(settings: Settings) -> str:
    """The name of every endpoint's one variant: the stage's, so that one alarm hears of all its endpoints' metrics."""
    return f"{settings.app_name}-{settings.stage}"


def build_config_request(run: Run, recipe: Recipe, settings: Settings) -> Request:
    """CreateEndpointConfig for the run's model."""
    variant: Request = {"VariantName": name_variant(settings), "ModelName": run.run_id, "InitialVariantWeight": 1.0}
    plan = recipe.endpoint
    if plan.kind == "serverless":
        variant["ServerlessConfig"] = {"MemorySizeInMB": plan.memory_mb, "MaxConcurrency": plan.max_concurrency}
    else:
        variant["InitialInstanceCount"] = plan.min_instances
        variant["InstanceType"] = (recipe.instance_types.endpoint or settings.endpoint_instance_types)[0]
        variant["ContainerStartupHealthCheckTimeoutInSeconds"] = HEALTH_CHECK_SECONDS
    return {
        "EndpointConfigName": run.run_id,
        "ProductionVariants": [variant],
        "Tags": build_tags(run, settings),
    }


def build_endpoint_request(run: Run, settings: Settings) -> Request:
    """CreateEndpoint on the run's config."""
    return {
        "EndpointName": run.endpoint,
        "EndpointConfigName": run.run_id,
        "Tags": build_tags(run, settings),
    }


def split_ranges(recipe: Recipe) -> tuple[dict[str, str], Request]:
    """The hyperparameters that have one value, and SageMaker's ranges of the others (of one at least, as it wants)."""
    by_name = recipe.ranges.by_name()
    fixed = {
        name: _write_value(each.values[0])
        for name, each in by_name.items()
        if isinstance(each, Choices) and len(each.values) == 1
    }
    if len(fixed) == len(by_name):
        del fixed["batch_size"]
    ranges: dict[str, list[Request]] = {"ContinuousParameterRanges": [], "CategoricalParameterRanges": []}
    for name, each in by_name.items():
        if isinstance(each, LogRange):
            ends = {"MinValue": _write_value(each.min), "MaxValue": _write_value(each.max)}
            ranges["ContinuousParameterRanges"].append({"Name": name, **ends, "ScalingType": "Logarithmic"})
        elif name not in fixed:
            values = [_write_value(value) for value in each.values]
            ranges["CategoricalParameterRanges"].append({"Name": name, "Values": values})
    return fixed, {kind: found for kind, found in ranges.items() if found}


def _describe_job(run: Run, settings: Settings, instance_type: str, max_seconds: int) -> Request:
    """What a trial's definition and a training job's request have in common."""
    metrics = [
        {"Name": f"{split}:{name}", "Regex": f"{split}:{name}={NUMBER}"}
        for split, names in SPLIT_METRICS.items()
        for name in names
    ]
    return {
        "AlgorithmSpecification": {
            "TrainingImage": settings.training_image_gpu if has_gpu(instance_type) else settings.training_image_cpu,
            "TrainingInputMode": "File",
            "MetricDefinitions": metrics,
        },
        "RoleArn": settings.execution_role_arn,
        "InputDataConfig": _build_channels(run, settings),
        "OutputDataConfig": {"S3OutputPath": f"{run.uri}output/"},
        "ResourceConfig": {
            "InstanceType": instance_type,
            "InstanceCount": 1,
            "VolumeSizeInGB": settings.volume_gb,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": max_seconds},
        "CheckpointConfig": {"S3Uri": f"{run.uri}jobs/", "LocalPath": "/opt/ml/checkpoints"},
    }


def _build_channels(run: Run, settings: Settings) -> list[Request]:
    channels = {"dataset": f"{run.uri}input/"}
    if settings.weights_uri:
        channels["weights"] = settings.weights_uri
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


def _build_hyperparameters(run: Run, recipe: Recipe, settings: Settings, *, profile: bool) -> dict[str, str]:
    """The fixed hyperparameters of a job. SageMaker's own are JSON, as script mode reads them."""
    ours = {
        "run_id": run.run_id,
        "architecture": recipe.architecture,
        "image_size": str(recipe.image_size),
        "epochs": str(recipe.epochs),
        "seed": str(recipe.seed),
        "objective": recipe.objective,
        "patience": str(recipe.patience),
        "pretrained": recipe.pretrained,
        "profile": "true" if profile else "false",
    }
    if profile and recipe.stop_on_rules:
        ours["stop_on_rules"] = json.dumps(recipe.stop_on_rules)
    toolkit = {
        "sagemaker_program": json.dumps("train.py"),
        "sagemaker_submit_directory": json.dumps(run.code_uri),
        "sagemaker_container_log_level": "20",
        "sagemaker_job_name": json.dumps(run.training_job if profile else run.run_id),
        "sagemaker_region": json.dumps(settings.aws_region),
    }
    return ours | toolkit


def _write_value(value: float | int | str) -> str:
    """A value as SageMaker's ranges hold it: text, and numbers without an exponent."""
    return value if isinstance(value, str) else f"{Decimal(repr(value)):f}"
