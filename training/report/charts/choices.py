"""Choose what in an evaluation a person should look at: confused pairs, worst mistakes, labels that look wrong. Pure.

It also computes how much each hyperparameter mattered, and how certain an accuracy is.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SURE = 1.96  # standard deviations on either side cover 95 per cent
SHUFFLES = 400


@dataclass(frozen=True)
class Judged:
    """One image: its split and its number there, its file's name, class numbers, and two probabilities."""

    split: str
    number: int
    file: str
    label: int
    predicted: int
    probability: float
    given: float


@dataclass(frozen=True)
class Pair:
    """Images of class `label` taken for class `predicted`; `typical` is a correctly classified image of `predicted`."""

    label: int
    predicted: int
    count: int
    examples: Sequence[Judged] = ()
    typical: Judged | None = None


@dataclass(frozen=True)
class Importance:
    """How much of the objective's variance a hyperparameter explains alone, and how much chance alone would explain."""

    name: str
    share: float
    chance: float
    points: Sequence[tuple[Any, float]] = field(default_factory=list)


def find_interval(accuracy: float, images: int) -> tuple[float, float]:
    """Compute Wilson's 95 % interval of a share observed on so many images."""
    if images < 1:
        return 0.0, 1.0
    square = SURE**2 / images
    middle = (accuracy + square / 2) / (1 + square)
    half = SURE / (1 + square) * math.sqrt(accuracy * (1 - accuracy) / images + square / (4 * images))
    return max(0.0, middle - half), min(1.0, middle + half)


def list_judged(predictions: Mapping[str, Any], splits: Sequence[str] = ("test",)) -> list[Judged]:
    """Read the images of some splits from predictions.json."""
    names = ("files", "labels", "predicted", "probability", "given")
    return [
        Judged(split, number, *row)
        for split in splits
        if split in predictions
        for number, row in enumerate(zip(*(predictions[split][name] for name in names), strict=True))
    ]


def find_mistakes(images: Sequence[Judged], count: int) -> list[Judged]:
    """Find the wrong answers given with the highest confidence."""
    wrong = [image for image in images if image.predicted != image.label]
    return sorted(wrong, key=lambda image: (image.given - image.probability, image.split, image.number))[:count]


def find_suspects(images: Sequence[Judged], count: int) -> list[Judged]:
    """Find images whose label looks wrong, by confident learning (Northcutt et al. 2021), the clearest first.

    An image is suspect if the predicted class is at least as probable as it usually is for images labelled with it,
    while the image's own label is less probable than it usually is for its images.
    """
    own: dict[int, list[float]] = defaultdict(list)
    for image in images:
        own[image.label].append(image.given)
    usual = {label: sum(values) / len(values) for label, values in own.items()}
    return [
        image
        for image in find_mistakes(images, len(images))
        if image.probability >= usual.get(image.predicted, 1.0) and image.given < usual[image.label] / 2
    ][:count]


def find_pairs(confusion: Sequence[Sequence[int]], images: Sequence[Judged], count: int, examples: int) -> list[Pair]:
    """Find the ordered pairs of classes that are confused most, with example images where there are any."""
    cells = [
        (number, label, predicted)
        for label, row in enumerate(confusion)
        for predicted, number in enumerate(row)
        if number and label != predicted
    ]
    cells.sort(key=lambda cell: (-cell[0], sum(confusion[cell[1]]), cell[1], cell[2]))
    return [make_pair(label, predicted, number, images, examples) for number, label, predicted in cells[:count]]


def make_pair(label: int, predicted: int, number: int, images: Sequence[Judged], examples: int) -> Pair:
    taken = [image for image in images if (image.label, image.predicted) == (label, predicted)]
    right = [image for image in images if image.label == image.predicted == predicted]
    typical = max(right, key=lambda image: image.probability, default=None)
    return Pair(label, predicted, number, find_mistakes(taken, examples), typical)


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
