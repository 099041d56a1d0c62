"""Recipes: what a user may say beside a dataset, `datasets/NAME.json`, and what holds where it is silent.

`recipe.schema.json` says which members there are; this module adds the rules between members, gives the defaults and
makes of a document one frozen `Recipe`. All problems are told at once, each with its JSON path and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from math import prod
from typing import Any, Literal

from chalicelib.errors import InvalidRecipe
from chalicelib.recipe_documents import Problem, find_schema_problems, read_document, recipe_schema

MAX_COMBINATIONS = 750
HYPERBAND_MIN_EPOCHS = 3
OF_OTHER_KIND = {"serverless": ("instance_count",), "instance": ("memory_mb", "max_concurrency")}
GRID_FIXED = {"learning_rate": 1.0, "weight_decay": 0.01}


@dataclass(frozen=True)
class LogRange:
    """Every value between two ends, searched on a logarithmic scale."""

    min: float
    max: float


@dataclass(frozen=True)
class Choices:
    """A few values; one of them is a fixed value."""

    values: tuple[float | int | str, ...]


@dataclass(frozen=True)
class Ranges:
    """What the tuning job searches, by the hyperparameter's name."""

    learning_rate: LogRange | Choices = LogRange(0.1, 10.0)
    batch_size: Choices = Choices((16, 32, 64))
    weight_decay: LogRange | Choices = LogRange(1e-5, 0.1)
    fine_tune: Choices = Choices(("last_block", "all"))

    def by_name(self) -> dict[str, LogRange | Choices]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def combinations(self) -> int | None:
        """How many different trials there are; None where a range has no end of them."""
        ranges = self.by_name().values()
        if any(isinstance(each, LogRange) for each in ranges):
            return None
        return prod(len(each.values) for each in ranges if isinstance(each, Choices))


@dataclass(frozen=True)
class InstanceTypes:
    """Machines in order of preference; an empty tuple leaves the choice to the settings."""

    trial: tuple[str, ...] = ()
    training: tuple[str, ...] = ()
    endpoint: tuple[str, ...] = ()


@dataclass(frozen=True)
class EndpointPlan:
    """What serves the model: memory and concurrency are a serverless endpoint's, the count is an instance one's."""

    kind: Literal["instance", "serverless"] = "instance"
    instance_count: int = 1
    memory_mb: int = 3072
    max_concurrency: int = 5


@dataclass(frozen=True)
class Gate:
    """What a model must reach on the validation split to be deployed; 0 lets every model through."""

    min_accuracy: float = 0.0


@dataclass(frozen=True)
class MaxRuntimeSeconds:
    """Limits of a trial, of the last training, and of the whole tuning job."""

    trial: int = 3600
    training: int = 14400
    tuning: int = 86400


@dataclass(frozen=True)
class Recipe:
    """A recipe with every default filled in. The members are those of `recipe.schema.json`."""

    architecture: str = "resnet18"
    image_size: int = 224
    pretrained: Literal["auto", "imagenet", "none"] = "auto"
    epochs: int = 8
    patience: int = 0
    stop_on_rules: tuple[str, ...] = ()
    seed: int = 0
    strategy: Literal["Bayesian", "Random", "Grid", "Hyperband"] = "Bayesian"
    objective: Literal["score", "accuracy", "macro_f1"] = "score"
    early_stopping: Literal["Off", "Auto"] = "Off"
    trials: int = 6
    parallel_trials: int = 2
    ranges: Ranges = field(default_factory=Ranges)
    budget_usd: float | None = None
    instance_types: InstanceTypes = field(default_factory=InstanceTypes)
    endpoint: EndpointPlan = field(default_factory=EndpointPlan)
    gate: Gate = field(default_factory=Gate)
    max_runtime_seconds: MaxRuntimeSeconds = field(default_factory=MaxRuntimeSeconds)

    def as_dict(self) -> dict[str, Any]:
        """The recipe as a document that resolves to this same recipe: what `run.json` pins."""
        document = {name: value for name, value in asdict(self).items() if value is not None}
        document["ranges"] = {name: _write_range(name, each) for name, each in self.ranges.by_name().items()}
        document["instance_types"] = {use: list(types) for use, types in document["instance_types"].items() if types}
        document["stop_on_rules"] = list(self.stop_on_rules)
        foreign = OF_OTHER_KIND[self.endpoint.kind]
        document["endpoint"] = {name: value for name, value in document["endpoint"].items() if name not in foreign}
        return document


def parse_recipe(body: bytes) -> Recipe:
    """The recipe in a file's bytes. Raises InvalidRecipe, which lists all that is wrong with the file."""
    return resolve_recipe(read_document(body))


def resolve_recipe(document: Mapping[str, Any] | None) -> Recipe:
    """A document with the defaults filled in; None is the empty one. Raises InvalidRecipe with every problem."""
    given = {} if document is None else document
    problems = find_schema_problems(given)
    sound, broken = _drop_unsound(given, problems)
    problems += _find_rule_problems(sound, broken)
    if problems:
        raise InvalidRecipe.listing(problems)
    return _build(sound)


def _drop_unsound(document: Any, problems: list[Problem]) -> tuple[dict[str, Any], set[str]]:
    """What of a document can still be judged, and the names of the members of which something was dropped."""
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


def _find_rule_problems(document: Mapping[str, Any], broken: set[str]) -> list[Problem]:
    """What members say against one another. A rule about a member that is itself broken would only confuse."""
    recipe = _build(document)
    return [problem for members, check in RULES if not members & broken for problem in check(document, recipe)]


def _build(document: Mapping[str, Any]) -> Recipe:
    simple = {name: _plain(value) for name, value in document.items() if not isinstance(value, Mapping)}
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
        endpoint=EndpointPlan(**_plain_members(document, "endpoint")),
        gate=Gate(**_plain_members(document, "gate")),
        max_runtime_seconds=MaxRuntimeSeconds(**_plain_members(document, "max_runtime_seconds")),
    )


def _build_ranges(given: Mapping[str, Any], strategy: str, pretrained: str) -> Ranges:
    defaults: dict[str, LogRange | Choices] = {}
    if strategy == "Grid":
        defaults |= {name: Choices((value,)) for name, value in GRID_FIXED.items()}
    if pretrained == "none":
        defaults["fine_tune"] = Choices(("all",))
    return Ranges(**{**defaults, **{name: _read_range(value) for name, value in given.items()}})  # type: ignore[arg-type]


def _read_range(value: Any) -> LogRange | Choices:
    if isinstance(value, Mapping) and "values" not in value:
        return LogRange(float(value["min"]), float(value["max"]))
    if isinstance(value, Mapping):
        return Choices(tuple(float(each) for each in value["values"]))
    return Choices(tuple(_plain(each) for each in value))


def _write_range(name: str, value: LogRange | Choices) -> Any:
    if isinstance(value, LogRange):
        return asdict(value)
    return {"values": list(value.values)} if name in GRID_FIXED else list(value.values)


def _plain(value: Any) -> Any:
    """Values as Python wants them: JSON Schema takes 4.0 for an integer; what is frozen holds tuples."""
    if isinstance(value, list):
        return tuple(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plain_members(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {member: _plain(value) for member, value in document.get(name, {}).items()}


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
            message = f"is no matter of a {recipe.endpoint.kind!r} endpoint: leave it out, or change kind."
            yield Problem(f"$.endpoint.{name}", message)


def _check_machines(_: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    if recipe.endpoint.kind == "serverless" and recipe.instance_types.endpoint:
        yield Problem("$.instance_types.endpoint", "a serverless endpoint has no machines: leave it out.")


def _check_runtimes(_: Mapping[str, Any], recipe: Recipe) -> Iterator[Problem]:
    limits = recipe.max_runtime_seconds
    if limits.trial > limits.tuning:
        message = f"{limits.trial} s are more than the whole tuning's {limits.tuning} s: lower it, or raise tuning."
        yield Problem("$.max_runtime_seconds.trial", message)


RULES: tuple[tuple[set[str], Callable[[Mapping[str, Any], Recipe], Iterator[Problem]]], ...] = (
    (set(), _check_spans),
    ({"strategy"}, _check_grid),
    ({"strategy", "early_stopping"}, _check_hyperband_stopping),
    ({"strategy", "epochs"}, _check_hyperband_epochs),
    ({"pretrained"}, _check_depth),
    ({"strategy", "trials", "ranges", "pretrained"}, _check_trials),
    ({"strategy", "trials", "parallel_trials", "ranges"}, _check_parallel),
    ({"endpoint"}, _check_endpoint),
    ({"endpoint", "instance_types"}, _check_machines),
    ({"max_runtime_seconds"}, _check_runtimes),
)
