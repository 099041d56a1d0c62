"""Check the rules between a recipe's members that a schema cannot express; each yields its problems with a path."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from chalicelib.recipes.architectures import find_input
from chalicelib.recipes.documents import Problem
from chalicelib.recipes.instances import find_list_problems
from chalicelib.recipes.serving_memory import MOST_MB, estimate_memory
from chalicelib.recipes.values import OF_OTHER_KIND, LogRange, Recipe

MAX_COMBINATIONS = 750
HYPERBAND_MIN_EPOCHS = 3
MOST_IGNORED = 2_000


def _check_spans(document: Mapping[str, Any], _: Recipe) -> Iterator[Problem]:
    for name, value in document.get("ranges", {}).items():
        if isinstance(value, Mapping) and "min" in value and value["min"] >= value["max"]:
            low, high = value["min"], value["max"]
            message = f'min {low} is not less than max {high}: swap them, or fix it with {{"values": [{low}]}}.'
            yield Problem(f"$.ranges.{name}", message)


def _check_grid(_: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    for name, value in recipe.ranges.by_name().items():
        if recipe.strategy == "Grid" and isinstance(value, LogRange):
            message = 'Grid tries listed values only: give {"values": […]} in place of min and max.'
            yield Problem(f"$.ranges.{name}", message)


def _check_hyperband_stopping(_: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    if recipe.strategy == "Hyperband" and recipe.early_stopping != "Off":
        message = f"Hyperband stops trials itself, so it cannot be {recipe.early_stopping!r}: set it to 'Off'."
        yield Problem("$.early_stopping", message)


def _check_hyperband_epochs(_: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    if recipe.strategy == "Hyperband" and recipe.epochs < HYPERBAND_MIN_EPOCHS:
        message = f"Hyperband needs at least {HYPERBAND_MIN_EPOCHS} epochs to compare trials, not {recipe.epochs}."
        yield Problem("$.epochs", message)


def _check_depth(_: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    shallow = [each for each in recipe.ranges.fine_tune.values if each != "all"]
    if recipe.pretrained == "none" and shallow:
        message = (
            f"without pretrained weights a network is trained whole, so {shallow} cannot serve: set it to ['all']."
        )
        yield Problem("$.ranges.fine_tune", message)


def _check_imbalance(_: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    ways = recipe.ranges.imbalance.values
    if "auto" in ways and len(ways) > 1:
        yield Problem("$.ranges.imbalance", "'auto' chooses among the others: leave it out, or give it alone.")


def _check_mixing(document: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    for name in ("mixup", "cutmix"):
        if document.get(name) and recipe.deepest == "head":
            message = (
                "a head alone is trained on features, which are not mixed: leave it out, or let fine_tune be deeper."
            )
            yield Problem(f"$.{name}", message)


def _check_refit(_: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    if recipe.refit and recipe.instance_count > 1:
        message = "it is done by one machine, and the others would wait: leave it out, or set instance_count to 1."
        yield Problem("$.refit", message)


def _check_image_size(_: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    known, size = find_input(recipe.architecture), recipe.image_size
    if known.least <= size <= known.most:
        return
    taken = f"{known.least} pixels and no other size" if known.least == known.most else f"{known.least} pixels or more"
    yield Problem("$.image_size", f"{recipe.architecture} takes images of {taken}, not {size}: leave it out.")


def _check_trials(_: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    combinations = recipe.ranges.combinations()
    if combinations is None:
        return
    if recipe.strategy == "Grid" and combinations > MAX_COMBINATIONS:
        yield Problem("$.ranges", f"{combinations} combinations are more than {MAX_COMBINATIONS}: list fewer values.")
    elif recipe.strategy == "Grid" and recipe.trials != combinations:
        message = f"Grid tries all {combinations} combinations, not {recipe.trials}: leave trials out."
        yield Problem("$.trials", message)
    elif recipe.trials > combinations:
        message = (
            f"the ranges hold {combinations} different trials, not {recipe.trials}: lower it, or widen the ranges."
        )
        yield Problem("$.trials", message)


def _check_parallel(_: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    if recipe.parallel_trials > recipe.trials:
        message = (
            f"{recipe.parallel_trials} at a time are more than all {recipe.trials} trials: lower it, or raise trials."
        )
        yield Problem("$.parallel_trials", message)


def _check_endpoint(document: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    for name in OF_OTHER_KIND[recipe.endpoint.kind]:
        if name in document.get("endpoint", {}):
            message = f"does not apply to a {recipe.endpoint.kind!r} endpoint: leave it out, or change kind."
            yield Problem(f"$.endpoint.{name}", message)


def _check_memory(_: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    needed = estimate_memory(recipe.architecture, recipe.image_size)
    if recipe.endpoint.kind != "serverless" or needed <= recipe.endpoint.memory_mb:
        return
    what = f"{recipe.architecture} at {recipe.image_size} pixels needs about {needed} MB to answer"
    if needed > MOST_MB:
        message = f"{what}, and a serverless endpoint has {MOST_MB} at most: take 'instance'."
        yield Problem("$.endpoint.kind", message)
    else:
        yield Problem("$.endpoint.memory_mb", f"{what}, not {recipe.endpoint.memory_mb}: raise it, or leave it out.")


def _check_scaling(_: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    plan = recipe.endpoint
    if plan.min_instances > plan.max_instances:
        message = f"{plan.max_instances} are fewer than min_instances {plan.min_instances}: raise it, or leave it out."
        yield Problem("$.endpoint.max_instances", message)


def _check_machines(_: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    if recipe.endpoint.kind == "serverless" and recipe.instance_types.endpoint:
        message = "a serverless endpoint has no machines: leave it out, or set endpoint.kind to 'instance'."
        yield Problem("$.instance_types.endpoint", message)


def _check_families(document: Mapping[str, Any], _: Recipe) -> Iterator[Problem]:
    for use, types in document.get("instance_types", {}).items():
        for problem in find_list_problems(use, types):
            yield Problem(f"$.instance_types.{use}", f"{problem}.")


def _check_runtimes(_: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    limits = recipe.max_runtime_seconds
    if limits.trial > limits.tuning:
        message = f"{limits.trial} s are more than the whole tuning's {limits.tuning} s: lower it, or raise tuning."
        yield Problem("$.max_runtime_seconds.trial", message)


def _check_ignore(_: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    size = len(json.dumps(recipe.ignore, ensure_ascii=False))
    if size > MOST_IGNORED:  # a hyperparameter holds 2,500 characters
        message = f"the patterns have {size:,} characters together, more than {MOST_IGNORED:,}: write fewer."
        yield Problem("$.ignore", message)


RULES: tuple[tuple[set[str], Callable[[Mapping[str, Any], Recipe], Iterator[Problem]]], ...] = (
    (set(), _check_spans),
    ({"strategy"}, _check_grid),
    ({"strategy", "early_stopping"}, _check_hyperband_stopping),
    ({"strategy", "epochs"}, _check_hyperband_epochs),
    ({"pretrained"}, _check_depth),
    ({"ranges"}, _check_imbalance),
    ({"mixup", "cutmix", "ranges", "pretrained"}, _check_mixing),
    ({"refit", "instance_count"}, _check_refit),
    ({"architecture", "image_size"}, _check_image_size),
    ({"strategy", "trials", "ranges", "pretrained"}, _check_trials),
    ({"strategy", "trials", "parallel_trials", "ranges"}, _check_parallel),
    ({"endpoint"}, _check_endpoint),
    ({"endpoint", "architecture", "image_size"}, _check_memory),
    ({"endpoint"}, _check_scaling),
    ({"endpoint", "instance_types"}, _check_machines),
    ({"instance_types"}, _check_families),
    ({"max_runtime_seconds"}, _check_runtimes),
    ({"ignore"}, _check_ignore),
)
