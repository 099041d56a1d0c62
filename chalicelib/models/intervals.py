"""Compute intervals of accuracies: of one (Wilson) and of the difference of two on the same images (Tango). Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

SURE = 1.96  # standard deviations on either side of the mean that hold 95 %
POWER = 0.8  # of a real difference being shown
STEPS = 60  # halvings of [-1, 1]: more precise than a float needs


def find_interval(accuracy: float, images: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of an accuracy on so many images. It holds near 0 and 1, and for few images."""
    if images < 1:
        return 0.0, 1.0
    square = SURE**2 / images
    middle = (accuracy + square / 2) / (1 + square)
    half = SURE / (1 + square) * math.sqrt(accuracy * (1 - accuracy) / images + square / (4 * images))
    return max(0.0, middle - half), min(1.0, middle + half)


def add_interval(metrics: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a result's metrics with the interval of the test accuracy, for those who show it: `test.interval`."""
    test = (metrics or {}).get("test") or {}
    if metrics is None or "accuracy" not in test or not test.get("images"):
        return dict(metrics) if metrics is not None else None
    return {**metrics, "test": {**test, "interval": find_interval(test["accuracy"], test["images"])}}


def find_paired_interval(only_new: int, only_old: int, images: int, level: float = 0.95) -> tuple[float, float]:
    """Return the two-sided interval of (new - old) accuracy, both measured on the same images.

    `only_new` images are right with the new model alone, `only_old` with the old one alone. The interval holds every
    difference that Tango's score test does not reject: T. Tango, Equivalence test and confidence interval for the
    difference in proportions for the paired-sample design, Statistics in Medicine 17 (1998) 891-908, equations 24-26.
    """
    if images < 1:
        return -1.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    return _solve(only_new, only_old, images, z), _solve(only_new, only_old, images, -z)


def find_paired_lower(only_new: int, only_old: int, images: int, level: float) -> float:
    """Return the one-sided lower bound of (new - old) accuracy at a level."""
    return find_paired_interval(only_new, only_old, images, 2 * level - 1)[0]


def score(only_new: int, only_old: int, images: int, difference: float) -> float:
    """Return Tango's score statistic for the hypothesis that (new - old) accuracy is this difference.

    It is nearly standard normal under the hypothesis, and falls as the difference grows.
    """
    b, c, n, d = only_new, only_old, images, difference
    half = -b - c + (2 * n - b + c) * d
    only_old_share = (math.sqrt(max(0.0, half**2 + 8 * n * c * d * (1 - d))) - half) / (4 * n)
    variance = n * (2 * only_old_share + d * (1 - d))
    excess = b - c - n * d
    if variance <= 1e-12:
        return 0.0 if abs(excess) <= 1e-9 else math.copysign(math.inf, excess)
    return excess / math.sqrt(variance)


def _solve(only_new: int, only_old: int, images: int, z: float) -> float:
    """Return the difference whose score statistic is z."""
    low, high = -1.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        if score(only_new, only_old, images, middle) > z:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def find_smallest_difference(discordant: int, images: int) -> float:
    """Return the smallest difference of two accuracies that so many images show, at 95 %, in four cases of five.

    `discordant` images are right with one of the two models alone. One such image is assumed where there is none.
    """
    if images < 1:
        return 1.0
    factor = SURE + NormalDist().inv_cdf(POWER)
    return min(1.0, factor * math.sqrt(max(discordant, 1)) / images)
