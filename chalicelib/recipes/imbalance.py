"""Settle what a recipe leaves open until classes are counted: the objective, and what is done about imbalance. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RATIO = 3.0  # the training program asks the same
WAYS = ("none", "adjust", "sample")


def measure_imbalance(dataset: Mapping[str, Any]) -> float | None:
    """Return how many times as many training images the largest class has as the smallest; None if none is known."""
    counts = [count for count in (dataset.get("splits") or {}).get("train", {}).values() if count > 0]
    return max(counts) / min(counts) if counts else None


def settle_by_counts(recipe: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pinned recipe with what its `auto` means for a dataset, as pre-flight has counted it.

    A Grid tries every combination, so its number of trials must not grow: there the training decides about imbalance.
    """
    ratio = measure_imbalance(dataset)
    if ratio is None:
        return dict(recipe)
    settled = dict(recipe)
    if recipe.get("objective") == "auto":
        settled["objective"] = "macro_f1" if ratio >= RATIO else "score"
    ranges = dict(recipe.get("ranges") or {})
    if ranges.get("imbalance") == ["auto"] and recipe.get("strategy") != "Grid":
        settled["ranges"] = ranges | {"imbalance": list(WAYS) if ratio >= RATIO else ["none"]}
    return settled
