"""Compute how certain a share is that was observed on a number of images."""

from __future__ import annotations

import math
from statistics import NormalDist

LIKELY = 0.95


def find_interval(accuracy: float, images: int, likely: float = LIKELY) -> tuple[float, float]:
    """Compute Wilson's interval of a share observed on so many images, 95 % unless told."""
    if images < 1:
        return 0.0, 1.0
    sure = NormalDist().inv_cdf((1 + likely) / 2)
    square = sure**2 / images
    middle = (accuracy + square / 2) / (1 + square)
    half = sure / (1 + square) * math.sqrt(accuracy * (1 - accuracy) / images + square / (4 * images))
    return max(0.0, middle - half), min(1.0, middle + half)
