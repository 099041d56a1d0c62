"""Resolve a recipe, the settings that a user puts beside a dataset in `datasets/NAME.json`, and fill in the defaults.

`schema.json` defines the members and `rules` what must hold between them; this module adds the defaults and turns a
document into one frozen `Recipe`. All problems are reported at once, each with its path and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chalicelib.errors import InvalidRecipe
from chalicelib.recipes.architectures import find_input
from chalicelib.recipes.documents import Problem, find_schema_problems, read_document, recipe_schema
from chalicelib.recipes.rules import RULES
from chalicelib.recipes.serving_memory import MOST_MB, choose_memory, estimate_memory
from chalicelib.recipes.values import (
    GRID_FIXED,
    OF_OTHER_KIND,
    Choices,
    EndpointPlan,
    Gate,
    InstanceTypes,
    LogRange,
    MaxRuntimeSeconds,
    Promotion,
    Ranges,
    Recipe,
)

__all__ = ["OF_OTHER_KIND", "Choices", "LogRange", "Ranges", "Recipe", "parse_recipe", "resolve_recipe"]


def parse_recipe(body: bytes, *, in_vpc: bool = False) -> Recipe:
    """Return the recipe in a file's bytes. Raise InvalidRecipe, which lists everything that is wrong with the file."""
    return resolve_recipe(read_document(body), in_vpc=in_vpc)


def resolve_recipe(document: Mapping[str, Any] | None, *, in_vpc: bool = False) -> Recipe:
    """Fill in the defaults of a document; None is the empty one. Raise InvalidRecipe with every problem.

    `in_vpc` says that endpoints are in a VPC, where they cannot be serverless.
    """
    given = {} if document is None else document
    problems = find_schema_problems(given)
    sound, broken = _drop_unsound(given, problems)
    problems += _find_rule_problems(sound, broken, in_vpc)
    if problems:
        raise InvalidRecipe.listing(problems)
    return _build(sound, in_vpc)


def _drop_unsound(document: Any, problems: list[Problem]) -> tuple[dict[str, Any], set[str]]:
    """Return the part of a document that can still be checked, and the names of the members that lost a part."""
    known = {name: each for name, each in recipe_schema()["properties"].items() if name != "$schema"}
    sound: dict[str, Any] = {}
    broken: set[str] = set()
    for name in known.keys() & document if isinstance(document, Mapping) else ():
        value, path = document[name], f"$.{name}"
        if not _lies_below(problems, path):
            sound[name] = value
            continue
        broken.add(name)
        if isinstance(value, Mapping) and "properties" in known[name]:
            parts = known[name]["properties"].keys() & value
            sound[name] = {part: value[part] for part in parts if not _lies_below(problems, f"{path}.{part}")}
    return sound, broken


def _lies_below(problems: list[Problem], path: str) -> bool:
    return any(each.path == path or each.path.startswith((f"{path}.", f"{path}[")) for each in problems)


def _find_rule_problems(document: Mapping[str, Any], broken: set[str], in_vpc: bool) -> list[Problem]:
    """Find contradictions between members. A rule about a member that is itself broken would only confuse."""
    recipe = _build(document, in_vpc)
    problems = [problem for members, check in RULES if not members & broken for problem in check(document, recipe)]
    if in_vpc and recipe.endpoint.kind == "serverless":
        message = "this app's endpoints are in a VPC, which a serverless one cannot be: take 'instance'."
        problems.append(Problem("$.endpoint.kind", message))
    return problems


def _build(document: Mapping[str, Any], in_vpc: bool) -> Recipe:
    simple = {name: _plain(value) for name, value in document.items() if not isinstance(value, Mapping)}
    simple.setdefault("image_size", _find_size(document))
    strategy, pretrained = simple.get("strategy", "Bayesian"), simple.get("pretrained", "auto")
    ranges = _build_ranges(document.get("ranges", {}), strategy, pretrained)
    combinations = ranges.combinations()
    default_trials = 6 if combinations is None else combinations if strategy == "Grid" else min(6, combinations)
    trials = simple.pop("trials", default_trials)
    return Recipe(
        **{"parallel_trials": min(2, trials), **simple},
        trials=trials,
        ranges=ranges,
        instance_types=InstanceTypes(
            **{use: tuple(types) for use, types in document.get("instance_types", {}).items()}
        ),
        endpoint=_build_endpoint(document, in_vpc),
        gate=Gate(**_plain_members(document, "gate")),
        promotion=Promotion(**_plain_members(document, "promotion")),
        max_runtime_seconds=MaxRuntimeSeconds(**_plain_members(document, "max_runtime_seconds")),
    )


def read_pinned(document: Mapping[str, Any] | None) -> Recipe:
    """Return the recipe that a run pinned: it was checked then, and later rules do not change it."""
    return _build(document or {}, False)


def _find_size(document: Mapping[str, Any]) -> int:
    """Return the image size of a document that names none: its network's own."""
    return find_input(document.get("architecture", Recipe.architecture)).size


def _build_ranges(given: Mapping[str, Any], strategy: str, pretrained: str) -> Ranges:
    defaults: dict[str, LogRange | Choices] = {}
    if strategy == "Grid":
        defaults |= {name: Choices((value,)) for name, value in GRID_FIXED.items()}
    if pretrained == "none":
        defaults["fine_tune"] = Choices(("all",))
    return Ranges(**{**defaults, **{name: _read_range(value) for name, value in given.items()}})  # type: ignore[arg-type]


def _build_endpoint(document: Mapping[str, Any], in_vpc: bool) -> EndpointPlan:
    """Build the endpoint's plan: serverless where possible, with the memory that the network needs."""
    given = _plain_members(document, "endpoint")
    needed = estimate_memory(
        document.get("architecture", Recipe.architecture), int(document.get("image_size", _find_size(document)))
    )
    fewest = given.get("min_instances", EndpointPlan.min_instances)
    defaults = {
        "kind": "instance" if in_vpc or needed > MOST_MB else EndpointPlan.kind,
        "max_instances": max(EndpointPlan.max_instances, fewest),
    }
    if given.get("kind", defaults["kind"]) == "serverless":
        defaults["memory_mb"] = choose_memory(needed)
    return EndpointPlan(**defaults | given)


def _read_range(value: Any) -> LogRange | Choices:
    if isinstance(value, Mapping) and "values" not in value:
        return LogRange(float(value["min"]), float(value["max"]))
    if isinstance(value, Mapping):
        return Choices(tuple(float(each) for each in value["values"]))
    return Choices(tuple(_plain(each) for each in value))


def _plain(value: Any) -> Any:
    """Convert a value for a frozen recipe: 4.0, an integer to JSON Schema, to an int, and a list to a tuple."""
    if isinstance(value, list):
        return tuple(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plain_members(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {member: _plain(value) for member, value in document.get(name, {}).items()}
