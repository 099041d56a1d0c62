"""Say what a model must at least reach: more than chance, and more than always answering the most frequent class."""

from __future__ import annotations

from typing import Any

import torch
from images.assembly import Dataset
from judging.evaluate import hits
from judging.intervals import find_interval


def describe_floor(data: Dataset, logits: torch.Tensor) -> dict[str, Any]:
    """Describe a model's test accuracy beside that of guessing. logits: its answers on the test split.

    `lower` is the lower end of Wilson's 95 % interval.
    """
    images, correct = len(data.test), int(hits(logits, data.test.labels).sum())
    counts = torch.bincount(data.test.labels, minlength=len(data.classes))
    return {
        "images": images,
        "correct": correct,
        "accuracy": correct / images,
        "lower": find_interval(correct / images, images)[0],
        "classes": len(data.classes),
        "chance": 1 / len(data.classes),
        "most_frequent": int(counts.max()) / images,
    }
