"""Parse what an operator orders with `make deploy` and `make destroy`, and turn it into the stack's parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infrastructure.errors import Unusable

NAME_PART = re.compile(r"[a-z0-9]+")  # with a hyphen, one stage's names could be a prefix of another's
TAG = re.compile(r"[\w .:/=+@-]+")
MAX_NAMES = 21  # characters of APP-STAGE, with which a tuning job's name of at most 32 characters begins
OURS = "whippet:"


@dataclass(frozen=True)
class Order:
    """What was ordered. An empty profile or region means the environment's. `tags` are cost-allocation tags."""

    app: str = "whippet"
    stage: str = "dev"
    profile: str = ""
    region: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    anyway: bool = False


def check_names(app: str, stage: str) -> None:
    """Raise Unusable for a name that SageMaker, S3 or IAM would refuse."""
    for what, value in (("APP", app), ("STAGE", stage)):
        if not NAME_PART.fullmatch(value):
            raise Unusable(f"{what} is {value!r}, and may hold lower-case letters and digits alone.")
    if len(f"{app}-{stage}") > MAX_NAMES:
        raise Unusable(f"{app}-{stage} has {len(app) + len(stage) + 1} characters, and may have {MAX_NAMES}.")


def read_pairs(text: str, what: str) -> dict[str, str]:
    """Parse `NAME=VALUE` pairs, separated by spaces, or by commas if a name follows.

    Raises Unusable naming a word that is not a pair.
    """
    words = [word for word in re.split(r"\s+|,(?=[\w:]+=)", text.strip()) if word]
    pairs = [word.partition("=") for word in words]
    for name, equals, _value in pairs:
        if not name or not equals:
            raise Unusable(f"{what} has {name!r}, and takes NAME=VALUE pairs.")
    return {name: value for name, _equals, value in pairs}


def check_tags(tags: Mapping[str, str]) -> None:
    """Raise Unusable for a tag that AWS would refuse, or that is ours."""
    for name, value in tags.items():
        if name.lower().startswith(("aws:", OURS)):
            raise Unusable(f"TAGS has {name!r}; what begins with aws: or {OURS} is not yours to set.")
        if not TAG.fullmatch(name) or not TAG.fullmatch(value) or len(name) > 128 or len(value) > 256:
            raise Unusable(
                f"TAGS has {name}={value}; names and values hold letters, digits, spaces and . : / = + @ - _"
            )


def tag_stage(order: Order, cost_tags: str) -> dict[str, str]:
    """Return the tags of everything in the stage: ours, by which `destroy` finds what is left, and the cost tags.

    Cost tags stay as they were ordered until others are ordered.
    """
    return {f"{OURS}app": order.app, f"{OURS}stage": order.stage, **json.loads(cost_tags or "{}")}


def join_orders(template: Mapping[str, Any], order: Order, earlier: Mapping[str, str]) -> dict[str, str]:
    """Join the parameters ordered now with those ordered earlier: an order holds until another replaces it.

    Parameters that the template no longer has are dropped. Raises Unusable for a newly ordered one that it does not
    have.
    """
    known = template["Parameters"]
    if unknown := sorted(set(order.parameters) - set(known)):
        raise Unusable(f"The template has no parameter {', '.join(unknown)}. It has {', '.join(sorted(known))}.")
    tags = {"CostTags": json.dumps(dict(order.tags), sort_keys=True)} if order.tags else {}
    joined = {**earlier, **tags, **order.parameters}
    return {name: value for name, value in joined.items() if name in known}


def settle_parameters(
    template: Mapping[str, Any], order: Order, ordered: Mapping[str, str], found: Mapping[str, str]
) -> dict[str, str]:
    """Return every template parameter's value: the ordered one, else the one found out, else the default."""
    known = template["Parameters"]
    values = {name: str(told.get("Default", "")) for name, told in known.items()}
    values |= {**found, "AppName": order.app, "StageName": order.stage, **ordered}
    return {name: value for name, value in values.items() if name in known}


def read_types(parameters: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the instance types of the trials, of the final training, and of endpoints."""
    trials, training, endpoints = (
        split_types(parameters[f"{each}InstanceTypes"]) for each in ("Trial", "Training", "Endpoint")
    )
    return trials, training, endpoints


def split_types(text: str) -> tuple[str, ...]:
    """Split a comma-separated list."""
    return tuple(word.strip() for word in text.split(",") if word.strip())
