"""Say what a model must at least reach: more than chance, and more than always answering the most frequent class."""

from __future__ import annotations

import math
from typing import Any

import torch
from images.assembly import Dataset
from judging.evaluate import hits

DEVIATIONS = 1.959964  # of a normal distribution, on either side of 95 %


def find_lower_bound(correct: int, images: int) -> float:
    """Return the lower end of Wilson's 95 % interval of a share."""
    if images == 0:
        return 0.0
    share, square = correct / images, DEVIATIONS**2
    middle = share + square / (2 * images)
    spread = DEVIATIONS * math.sqrt(share * (1 - share) / images + square / (4 * images**2))
    return max(0.0, (middle - spread) / (1 + square / images))


def describe_floor(data: Dataset, logits: torch.Tensor) -> dict[str, Any]:
    """Describe a model's test accuracy beside that of guessing. logits: its answers on the test split."""
    images, correct = len(data.test), int(hits(logits, data.test.labels).sum())
    counts = torch.bincount(data.test.labels, minlength=len(data.classes))
    return {
        "images": images,
        "correct": correct,
        "accuracy": correct / images,
        "lower": find_lower_bound(correct, images),
        "classes": len(data.classes),
        "chance": 1 / len(data.classes),
        "most_frequent": int(counts.max()) / images,
    }
