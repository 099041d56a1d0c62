"""What a recipe's `auto` becomes once pre-flight has counted the classes."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from chalicelib.datasets.contents import DatasetLimits
from chalicelib.recipes.imbalance import RATIO, measure_imbalance, settle_by_counts
from chalicelib.recipes.resolving import resolve_recipe

ROOT = Path(__file__).parents[3]


def settle(recipe: dict[str, Any], **counts: int) -> Any:
    """Return the recipe as a run of a dataset with these training images has it."""
    return resolve_recipe(settle_by_counts(resolve_recipe(recipe).as_dict(), {"splits": {"train": counts}}))


@pytest.mark.parametrize(
    ("counts", "objective", "ways"),
    [
        ({"cat": 300, "dog": 100}, "macro_f1", ("none", "adjust", "sample")),
        ({"cat": 299, "dog": 100}, "score", ("none",)),
        ({"a": 1000, "b": 500, "c": 250, "d": 100}, "macro_f1", ("none", "adjust", "sample")),
        ({}, "auto", ("auto",)),
    ],
)
def test_counts_choose_the_objective_and_what_is_tuned(
    counts: dict[str, int], objective: str, ways: tuple[str, ...]
) -> None:
    """From 3 to 1 on macro F1 is maximised, and the ways to meet imbalance are tuned."""
    settled = settle({}, **counts)
    assert (settled.objective, settled.ranges.imbalance.values) == (objective, ways)


def test_what_the_recipe_says_stands() -> None:
    """An objective or a way that the user names is not replaced, nor is a Grid made larger."""
    told = settle({"objective": "accuracy", "ranges": {"imbalance": ["sample"]}}, cat=100, dog=1)
    assert (told.objective, told.ranges.imbalance.values) == ("accuracy", ("sample",))
    grid = settle({"strategy": "Grid"}, cat=100, dog=1)
    assert (grid.objective, grid.ranges.imbalance.values) == ("macro_f1", ("auto",))
    assert grid.trials == grid.ranges.combinations()


def test_settling_twice_changes_nothing() -> None:
    """Every look at a run settles its recipe."""
    dataset = {"splits": {"train": {"cat": 90, "dog": 10}}}
    once = settle_by_counts(resolve_recipe({}).as_dict(), dataset)
    assert settle_by_counts(once, dataset) == once


def test_auto_is_given_alone() -> None:
    """Beside others it would mean nothing."""
    with pytest.raises(Exception, match="give it alone"):
        resolve_recipe({"ranges": {"imbalance": ["auto", "none"]}})


def test_all_three_ask_the_same_ratio() -> None:
    """Pre-flight tells what the control plane does, and a training that decides alone does the same."""
    tree = ast.parse((ROOT / "training/judging/deciding/imbalance.py").read_text())
    values = {
        node.targets[0].id: node.value.value  # type: ignore[attr-defined]
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    assert values["RATIO"] == RATIO == DatasetLimits().tuned_imbalance
    assert measure_imbalance({"splits": {"train": {"a": 6, "b": 2, "c": 0}}}) == 3.0
