"""Hold a recipe's values with every default filled in. `resolve_recipe` builds them from a document."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from math import prod
from typing import Any, Literal

OF_OTHER_KIND = {"serverless": ("min_instances", "max_instances"), "instance": ("memory_mb", "max_concurrency")}
DEPTHS = ("head", "last_block", "all")
GRID_FIXED = {"learning_rate": 1.0, "weight_decay": 0.01}


@dataclass(frozen=True)
class LogRange:
    """All values between two ends, searched on a logarithmic scale."""

    min: float
    max: float


@dataclass(frozen=True)
class Choices:
    """A list of values; a list of one is a fixed value."""

    values: tuple[float | int | str, ...]


@dataclass(frozen=True)
class Ranges:
    """The ranges that the tuning job searches, by hyperparameter."""

    learning_rate: LogRange | Choices = LogRange(0.1, 10.0)
    batch_size: Choices = Choices((16, 32, 64))
    weight_decay: LogRange | Choices = LogRange(1e-5, 0.1)
    fine_tune: Choices = Choices(DEPTHS)
    imbalance: Choices = Choices(("auto",))

    def by_name(self) -> dict[str, LogRange | Choices]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def combinations(self) -> int | None:
        """Return the number of different trials; None if a range is continuous."""
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
    """The endpoint: memory and concurrency apply to a serverless one, the counts to one on instances."""

    kind: Literal["instance", "serverless"] = "serverless"
    min_instances: int = 1
    max_instances: int = 2
    memory_mb: int = 3072
    max_concurrency: int = 5


@dataclass(frozen=True)
class Gate:
    """The least validation results of a model to be deployed; 0 lets every model pass."""

    min_accuracy: float = 0.0
    min_macro_recall: float = 0.0
    min_class_recall: float = 0.0


@dataclass(frozen=True)
class Promotion:
    """When a model goes live, and how much less accurate than the live one it may be."""

    when: Literal["safe", "always", "ask"] = "safe"
    margin: float = 0.01


@dataclass(frozen=True)
class MaxRuntimeSeconds:
    """Time limits of a trial, of the final training, and of the whole tuning job."""

    trial: int = 3600
    training: int = 14400
    tuning: int = 86400


@dataclass(frozen=True)
class Recipe:
    """A recipe with every default filled in. The members are those of `schema.json`."""

    architecture: str = "resnet18"
    image_size: int = 224
    pretrained: Literal["auto", "imagenet", "none"] = "auto"
    batch_norm: Literal["auto", "keep", "learn"] = "auto"
    horizontal_flip: Literal["auto", "true", "false"] = "auto"
    rotation: Literal["auto", "true", "false"] = "auto"
    augmentation: Literal["usual", "trivial"] = "usual"
    clip_norm: float = 0.0
    head_rate: float = 1.0
    averaging: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    refit: bool = False
    epochs: int = 8
    patience: int = 0
    stop_on_rules: tuple[str, ...] = ()
    seed: int = 0
    strategy: Literal["Bayesian", "Random", "Grid", "Hyperband"] = "Bayesian"
    objective: Literal["auto", "score", "accuracy", "macro_f1"] = "auto"
    early_stopping: Literal["Off", "Auto"] = "Off"
    warm_start: bool = True
    trials: int = 6
    parallel_trials: int = 2
    spot: bool = True
    instance_count: int = 1
    ranges: Ranges = field(default_factory=Ranges)
    budget_usd: float | None = None
    instance_types: InstanceTypes = field(default_factory=InstanceTypes)
    endpoint: EndpointPlan = field(default_factory=EndpointPlan)
    gate: Gate = field(default_factory=Gate)
    promotion: Promotion = field(default_factory=Promotion)
    max_runtime_seconds: MaxRuntimeSeconds = field(default_factory=MaxRuntimeSeconds)
    class_level: int = 0
    labels: str = "auto"
    group: str = ""
    ignore: tuple[str, ...] = ()
    name_encoding: str = "auto"

    @property
    def goal(self) -> str:
        """The metric that is maximised. What `auto` is depends on the dataset: `settle_by_counts` says it."""
        return "score" if self.objective == "auto" else self.objective

    @property
    def deepest(self) -> str:
        """Return the greatest depth of training that the recipe allows."""
        return str(max(self.ranges.fine_tune.values, key=lambda each: DEPTHS.index(str(each))))

    def as_dict(self) -> dict[str, Any]:
        """Return a document that resolves to this same recipe: what `run.json` pins."""
        document = {name: value for name, value in asdict(self).items() if value is not None}
        document["ranges"] = {name: _write_range(name, each) for name, each in self.ranges.by_name().items()}
        document["instance_types"] = {use: list(types) for use, types in document["instance_types"].items() if types}
        document["stop_on_rules"] = list(self.stop_on_rules)
        document["ignore"] = list(self.ignore)
        foreign = OF_OTHER_KIND[self.endpoint.kind]
        document["endpoint"] = {name: value for name, value in document["endpoint"].items() if name not in foreign}
        return document


def _write_range(name: str, value: LogRange | Choices) -> Any:
    if isinstance(value, LogRange):
        return asdict(value)
    return {"values": list(value.values)} if name in GRID_FIXED else list(value.values)
