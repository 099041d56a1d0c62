"""Build a job's hyperparameters: the fixed ones, the ones that the tuning job searches, and the toolkit's own. Pure."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from chalicelib.recipes.resolving import Choices, LogRange, Recipe
from chalicelib.runs.identity import Run
from chalicelib.settings import Settings

Request = dict[str, Any]
MIXING = ("mixup", "cutmix")  # not sent where they are off: SageMaker starts warm only with the same hyperparameters


def split_ranges(recipe: Recipe) -> tuple[dict[str, str], Request]:
    """Split the recipe's ranges into fixed hyperparameters and SageMaker's ranges (it requires at least one)."""
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


def build_hyperparameters(
    run: Run, recipe: Recipe, settings: Settings, *, profile: bool, max_runtime: int
) -> dict[str, str]:
    """Build a job's fixed hyperparameters. SageMaker's own are JSON, as script mode expects.

    max_runtime: MaxRuntimeInSeconds of the same request. The program ends itself before it, since SageMaker's SIGTERM
    reaches only the container's process 1, a shell that forwards no signal.
    """
    ours = {
        "run_id": run.run_id,
        "architecture": recipe.architecture,
        "image_size": str(recipe.image_size),
        "epochs": str(recipe.epochs),
        "seed": str(recipe.seed),
        "objective": recipe.goal,
        "patience": str(recipe.patience),
        "pretrained": recipe.pretrained,
        "batch_norm": recipe.batch_norm,
        "horizontal_flip": recipe.horizontal_flip,
        "rotation": recipe.rotation,
        "augmentation": recipe.augmentation,
        "clip_norm": _write_value(recipe.clip_norm),
        "head_rate": _write_value(recipe.head_rate),
        "averaging": _write_value(recipe.averaging),
        "profile": "true" if profile else "false",
        "max_runtime": str(max_runtime),
    }
    ours |= {name: _write_value(value) for name in MIXING if (value := getattr(recipe, name))}
    if profile:
        ours["baseline_depth"] = recipe.deepest
    if profile and recipe.refit:
        ours["refit"] = "true"
    if profile and recipe.stop_on_rules:
        ours["stop_on_rules"] = json.dumps(recipe.stop_on_rules)
    ours |= list_wishes(recipe)
    toolkit = {
        "sagemaker_program": json.dumps("train.py"),
        "sagemaker_submit_directory": json.dumps(run.code_uri),
        "sagemaker_container_log_level": "20",
        "sagemaker_job_name": json.dumps(run.training_job if profile else run.run_id),
        "sagemaker_region": json.dumps(settings.aws_region),
    }
    return ours | toolkit


def list_wishes(recipe: Recipe) -> dict[str, str]:
    """Return what the recipe says about reading the dataset, as pre-flight reads it; nothing for a default."""
    names = ("class_level", "labels", "group", "ignore", "name_encoding")
    said = {name: getattr(recipe, name) for name in names if getattr(recipe, name) != getattr(Recipe, name)}
    return {
        name: each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for name, each in said.items()
    }


def _write_value(value: float | int | str) -> str:
    """Format a value for SageMaker's ranges: as text, with numbers written without an exponent."""
    return value if isinstance(value, str) else f"{Decimal(repr(value)):f}"
