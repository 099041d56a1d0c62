"""Choose what in an evaluation a person should look at: confused pairs and weak classes. Pure.

It also computes how much each hyperparameter mattered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from judging.intervals import LIKELY
from judging.suspects import Judged, find_mistakes

SHUFFLES = 400


@dataclass(frozen=True)
class Pair:
    """Images of class `label` taken for class `predicted`; `typical` is a correctly classified image of `predicted`."""

    label: int
    predicted: int
    count: int
    images: int
    missed: bool  # no image of `label` was classified correctly
    examples: Sequence[Judged] = ()
    typical: Judged | None = None


@dataclass(frozen=True)
class Importance:
    """How much of the objective's variance a hyperparameter explains alone, and how much chance alone would explain."""

    name: str
    share: float
    chance: float
    points: Sequence[tuple[Any, float]] = field(default_factory=list)


def find_weak(rows: Sequence[Mapping[str, Any]], accuracy: float) -> list[Mapping[str, Any]]:
    """Find the classes that are surely recognised less often than images on the whole, the lowest recall first.

    A class is named if so few right answers are so unlikely at the accuracy of all images (a binomial test) that in 95
    of 100 cases not one class is named by chance.
    """
    known = [row for row in rows if row.get("support")]
    chance = (1 - LIKELY) / max(1, len(known))
    weak = [
        row for row in known if count_tail(round(row["recall"] * row["support"]), row["support"], accuracy) < chance
    ]
    return sorted(weak, key=lambda row: (row["recall"], -row["support"], row["class"]))


def count_tail(right: int, images: int, accuracy: float) -> float:
    """Return how likely at most so many right answers are, if each is right with this probability."""
    if not 0 < accuracy < 1:
        return float(right >= images * accuracy)
    odds = math.log(accuracy), math.log1p(-accuracy)
    ways = [math.lgamma(images + 1) - math.lgamma(n + 1) - math.lgamma(images - n + 1) for n in range(right + 1)]
    return sum(math.exp(way + n * odds[0] + (images - n) * odds[1]) for n, way in enumerate(ways))


def find_pairs(confusion: Sequence[Sequence[int]], images: Sequence[Judged], examples: int) -> list[Pair]:
    """Find the ordered pairs of classes that are confused, with example images where there are any.

    Classes with no right answer come first, then the pairs by the share of the class's images, then by their count.
    """
    pairs = [
        make_pair(confusion, (label, predicted), images, examples)
        for label, row in enumerate(confusion)
        for predicted, number in enumerate(row)
        if number and label != predicted
    ]
    return sorted(pairs, key=lambda pair: (*rank_pair(pair), pair.label, pair.predicted))


def rank_pair(pair: Pair) -> tuple[bool, float, int]:
    """Return what orders pairs: two with the same rank are tied."""
    return (not pair.missed, -pair.count / pair.images, -pair.count)


def count_tied(pairs: Sequence[Pair], shown: int) -> int:
    """Count the pairs beyond those shown that rank as high as the last one shown."""
    return sum(rank_pair(pair) == rank_pair(pairs[shown - 1]) for pair in pairs[shown:])


def make_pair(
    confusion: Sequence[Sequence[int]], pair: tuple[int, int], images: Sequence[Judged], examples: int
) -> Pair:
    label, predicted = pair
    row = confusion[label]
    taken = [image for image in images if (image.label, image.predicted) == pair]
    right = [image for image in images if image.label == image.predicted == predicted]
    typical = max(right, key=lambda image: image.probability, default=None)
    found = find_mistakes(taken, examples)
    return Pair(label, predicted, row[predicted], sum(row), not row[label], found, typical)


def rank_importance(trials: Sequence[tuple[Mapping[str, Any], float]], names: Sequence[str]) -> list[Importance]:
    """Return the share of the objective's variance that each hyperparameter explains alone, the largest first.

    trials: (hyperparameters, objective). Beside the share stands the one that a shuffled objective exceeds in one case
    of twenty: with few trials much is chance.
    """
    goals = np.array([goal for _, goal in trials], dtype=float)
    if len(goals) < 3 or float(goals.std()) == 0:
        return []
    found = []
    for name in names:
        values = [chosen.get(name) for chosen, _ in trials]
        design = make_design(values)
        shuffled = np.random.default_rng(0).permuted(np.tile(goals, (SHUFFLES, 1)), axis=1)
        chance = float(np.quantile([explain(design, each) for each in shuffled], 0.95))
        found.append(Importance(name, explain(design, goals), chance, list(zip(values, goals.tolist(), strict=True))))
    return sorted(found, key=lambda each: -each.share)


def make_design(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    """Make regression columns: a logarithm (and its square, given enough trials), or one column per category."""
    categories = sorted({str(value) for value in values})
    numbers = [
        value for value in values if isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    ]
    if len(numbers) < len(values) or len(categories) <= 3:
        return np.array([[str(value) == each for each in categories] for value in values], dtype=float)
    logs = np.log(np.array(numbers, dtype=float))
    logs = (logs - logs.mean()) / (logs.std() or 1.0)
    return np.stack([logs**power for power in range(3 if len(values) >= 6 else 2)], axis=1)


def explain(design: np.ndarray[Any, Any], goals: np.ndarray[Any, Any]) -> float:
    """Compute the share of variance that a least-squares fit explains (R squared), 0 to 1."""
    coefficients = np.linalg.lstsq(design, goals, rcond=None)[0]
    total = float(((goals - goals.mean()) ** 2).sum())
    return max(0.0, 1.0 - float(((goals - design @ coefficients) ** 2).sum()) / total) if total else 0.0
