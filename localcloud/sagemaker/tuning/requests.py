"""Read a tuning job's request, check its ranges and search as AWS does, and build its children's requests."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection
from typing import Any

from localcloud.common.store import Record
from localcloud.protocol.errors import Unsupported, ValidationException
from localcloud.sagemaker.core import unsupported
from localcloud.sagemaker.core.cloud import Request
from localcloud.sagemaker.core.tuning_resources import check_tuning_resources, choose_resources
from localcloud.sagemaker.training.jobs import OBJECTIVE_PARAMETER
from localcloud.sagemaker.training.requests import check_definition
from localcloud.sagemaker.tuning.search import Range, Search, count_grid, count_points, make_seed

# Where Hyperband without MaxResource looks for the number of epochs, in AWS's order.
EPOCH_PARAMETERS = ("epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs")
MOST_CHILDREN = 750
NOT_FOR_CHILDREN = (
    "StaticHyperParameters",
    "HyperParameterRanges",
    "TuningObjective",
    "DefinitionName",
    "HyperParameterTuningResourceConfig",
)


def check_tuning_request(region: str, request: Request) -> None:
    """Check what the service model cannot say of a CreateHyperParameterTuningJob.

    Raises ValidationException, or Unsupported for what AWS can do and the local cloud cannot.
    """
    unsupported.refuse_unsupported(request, unsupported.TUNING_JOB)
    definition, config = request.get("TrainingJobDefinition"), request["HyperParameterTuningJobConfig"]
    if definition is None:
        raise ValidationException("Either TrainingJobDefinition or TrainingJobDefinitions must be specified.")
    check_tuning_resources(definition)
    check_definition(region, definition, definition.get("StaticHyperParameters", {}))
    _check_objective(request)
    ranges = read_ranges(request)
    _check_ranges(ranges, definition.get("StaticHyperParameters", {}))
    _check_strategy(config, ranges, definition)
    _check_limits(config, ranges)
    _check_number_of_jobs(config, ranges)


def read_ranges(request: Record) -> tuple[Range, ...]:
    """Return the tuned hyperparameters, from the job's configuration or its definition, in the request's order."""
    described = find_parameter_ranges(request)
    ranges = [_read_number_range(item, "float") for item in described.get("ContinuousParameterRanges", [])]
    ranges += [_read_number_range(item, "int") for item in described.get("IntegerParameterRanges", [])]
    ranges += [
        Range(item["Name"], "categorical", choices=tuple(dict.fromkeys(item["Values"])))
        for item in described.get("CategoricalParameterRanges", [])
    ]
    return tuple(ranges)


def find_parameter_ranges(request: Record) -> dict[str, Any]:
    """Return the ParameterRanges of the request, wherever they are."""
    in_definition = request["TrainingJobDefinition"].get("HyperParameterRanges", {})
    ranges: dict[str, Any] = request["HyperParameterTuningJobConfig"].get("ParameterRanges") or in_definition
    return ranges


def read_objective(request: Record) -> dict[str, str]:
    """Return the objective: {Type, MetricName}."""
    config = request["HyperParameterTuningJobConfig"]
    objective = config.get("HyperParameterTuningJobObjective") or request["TrainingJobDefinition"].get(
        "TuningObjective"
    )
    if objective is None:
        raise ValidationException("HyperParameterTuningJobObjective must be specified.")
    return dict(objective)


def read_search(tuning: Record) -> Search:
    """Return the search that a tuning job's record describes."""
    config = tuning["HyperParameterTuningJobConfig"]
    seed = config.get("RandomSeed", make_seed(tuning["HyperParameterTuningJobArn"], tuning["CreationTime"].isoformat()))
    return Search(
        name=tuning["HyperParameterTuningJobName"],
        strategy=config["Strategy"],
        ranges=read_ranges(tuning),
        maximize=read_objective(tuning)["Type"] == "Maximize",
        seed=seed,
        resources=_read_resources(config, tuning["TrainingJobDefinition"]),
    )


def count_most_children(tuning: Record) -> int:
    """Return how many training jobs the tuning job may launch."""
    config = tuning["HyperParameterTuningJobConfig"]
    limit = config["ResourceLimits"].get("MaxNumberOfTrainingJobs")
    if config["Strategy"] == "Grid":
        return count_grid(read_ranges(tuning))
    return int(limit) if limit is not None else MOST_CHILDREN


def build_child_request(
    tuning: Record,
    number: int,
    tuned: dict[str, str],
    tags: dict[str, str],
    lacking: Collection[str] = (),
    *,
    own_checkpoints: bool = False,
) -> Request:
    """Build the request of the tuning job's training job of this number, counted from 1.

    The instance types in `lacking` have no capacity, so the first other preference is taken. With `own_checkpoints` the
    job's name is appended to the prefix of its checkpoints.
    """
    definition = tuning["TrainingJobDefinition"]
    hyperparameters = {
        **definition.get("StaticHyperParameters", {}),
        **tuned,
        OBJECTIVE_PARAMETER: read_objective(tuning)["MetricName"],
    }
    kept = {key: value for key, value in definition.items() if key not in NOT_FOR_CHILDREN}
    name = name_child(tuning, number)
    if own_checkpoints and (config := kept.get("CheckpointConfig")):
        kept["CheckpointConfig"] = config | {"S3Uri": f"{config['S3Uri'].rstrip('/')}/{name}"}
    return {
        **kept,
        "TrainingJobName": name,
        "HyperParameters": hyperparameters,
        "ResourceConfig": choose_resources(definition, lacking),
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }


def name_child(tuning: Record, number: int) -> str:
    """Return TUNING-NNN-HHHHHHHH, always the same for the same tuning job and number."""
    seed = f"{tuning['HyperParameterTuningJobArn']} {tuning['CreationTime'].isoformat()} {number}"
    return f"{tuning['HyperParameterTuningJobName']}-{number:03d}-{hashlib.sha256(seed.encode()).hexdigest()[:8]}"


def _check_objective(request: Request) -> None:
    metric = read_objective(request)["MetricName"]
    known = [
        item["Name"] for item in request["TrainingJobDefinition"]["AlgorithmSpecification"].get("MetricDefinitions", [])
    ]
    if metric not in known:
        raise ValidationException(
            f"The objective metric for the hyperparameter tuning job, [{metric}], isn't valid for the algorithm. "
            f"Choose a valid objective metric: {known}"
        )


def _check_ranges(ranges: tuple[Range, ...], static: dict[str, str]) -> None:
    if not ranges:
        raise ValidationException("A hyperparameter tuning job needs at least one parameter range.")
    names = [item.name for item in ranges]
    if len(set(names)) < len(names):
        raise ValidationException(f"The names of the parameter ranges must be unique; found {names}.")
    if both := sorted(set(names) & set(static)):
        raise ValidationException(f"The hyperparameters {both} are both static and tuned; name each of them once.")
    for item in ranges:
        if item.kind != "categorical":
            _check_number_range(item)


def _check_number_range(item: Range) -> None:
    if not item.low < item.high:
        raise ValidationException(
            f"The MinValue [{item.low}] of the hyperparameter {item.name!r} must be less than its MaxValue "
            f"[{item.high}]."
        )
    if item.scaling == "Logarithmic" and item.low <= 0:
        raise ValidationException(
            f"Logarithmic scaling of {item.name!r} needs a MinValue greater than 0, not {item.low}."
        )
    if item.scaling == "ReverseLogarithmic" and (item.kind == "int" or item.low < 0 or item.high >= 1):
        raise ValidationException(
            f"ReverseLogarithmic scaling of {item.name!r} needs a continuous range within 0 <= x < 1, "
            f"not {item.low} to {item.high}."
        )


def _check_strategy(config: Record, ranges: tuple[Range, ...], definition: Record) -> None:
    strategy = config["Strategy"]
    early = config.get("TrainingJobEarlyStoppingType", "Off")
    if strategy == "Grid" and any(item.kind != "categorical" for item in ranges):
        raise ValidationException("The Grid strategy supports categorical parameter ranges only.")
    if strategy == "Hyperband" and early != "Off":
        raise ValidationException(
            "The Hyperband strategy has its own early stopping: TrainingJobEarlyStoppingType must be Off."
        )
    if strategy != "Hyperband" and "StrategyConfig" in config:
        raise ValidationException("StrategyConfig can be specified for the Hyperband strategy only.")
    if strategy == "Hyperband":
        least, most = _read_resources(config, definition)
        if most < 1 or least > most:
            raise ValidationException(
                "Hyperband needs a MaxResource in its HyperbandStrategyConfig, or one of the static hyperparameters "
                f"{', '.join(EPOCH_PARAMETERS)}, of at least MinResource ({least})."
            )


def _check_limits(config: Record, ranges: tuple[Range, ...]) -> None:
    limit = config["ResourceLimits"].get("MaxNumberOfTrainingJobs")
    criteria = config.get("TuningJobCompletionCriteria", {})
    if criteria.get("ConvergenceDetected", {}).get("CompleteOnConvergence") == "Enabled":
        raise Unsupported("The local cloud does not detect convergence: set CompleteOnConvergence to Disabled")
    if config["Strategy"] == "Grid":
        if limit is not None and limit != count_grid(ranges):
            raise ValidationException(
                f"MaxNumberOfTrainingJobs of a Grid search must be the number of its combinations, "
                f"{count_grid(ranges)}, not {limit}; or leave it out."
            )
    elif limit is None and not criteria and "MaxRuntimeInSeconds" not in config["ResourceLimits"]:
        raise ValidationException("MaxNumberOfTrainingJobs must be specified, or a completion criterion.")


def _check_number_of_jobs(config: Record, ranges: tuple[Range, ...]) -> None:
    limits = config["ResourceLimits"]
    most, parallel = limits.get("MaxNumberOfTrainingJobs"), limits["MaxParallelTrainingJobs"]
    if most is None or config["Strategy"] == "Grid":
        return
    if parallel > most:
        raise ValidationException(
            f"MaxParallelTrainingJobs [{parallel}] must be less than or equal to MaxNumberOfTrainingJobs [{most}]."
        )
    if (points := count_points(ranges)) < most:
        raise ValidationException(
            "You don't have enough combinations of hyperparameter ranges. The total number of hyperparameter "
            f"combinations for the provided ranges [{float(points)}] must be equal or greater than the value of "
            f"MaxNumberOfJobs, [{most}]. Provide additional ranges."
        )


def _read_number_range(item: dict[str, str], kind: Any) -> Range:
    values = []
    for member in ("MinValue", "MaxValue"):
        try:
            value = float(item[member])
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (kind == "int" and value != int(value)):
            wanted = "an integer" if kind == "int" else "a number"
            raise ValidationException(
                f"{member} of the hyperparameter {item['Name']!r} must be {wanted}: {item[member]!r}"
            )
        values.append(value)
    return Range(item["Name"], kind, values[0], values[1], item.get("ScalingType", "Auto"))


def _read_resources(config: Record, definition: Record) -> tuple[int, int]:
    if config["Strategy"] != "Hyperband":
        return (1, 1)
    described = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig", {})
    static = definition.get("StaticHyperParameters", {})
    epochs = next((_read_count(static[name]) for name in EPOCH_PARAMETERS if name in static), 0)
    return described.get("MinResource", 1), described.get("MaxResource", epochs)


def _read_count(text: str) -> int:
    try:
        value = json.loads(text)
        return int(value)
    except (ValueError, TypeError):
        return 0
