"""Build comparison.json as the final training leaves it: what its model and the live one answer to the same images."""

from __future__ import annotations

from typing import Any

from chalicelib.models.intervals import find_interval

LIVE = "whippet-dev-dogs-00000000"
Document = dict[str, Any]


def build_test(name: str, images: int, only_new: int, only_live: int, neither: int | None = None) -> Document:
    """Build one set of common images; without a count, a tenth of the images that agree are wrong for both."""
    agree = images - only_new - only_live
    neither = agree // 10 if neither is None else neither
    left_out = {"seen": 0, "near_duplicates": 0, "other_classes": 0}
    return {
        "name": name,
        "images": images,
        "both": agree - neither,
        "only_new": only_new,
        "only_live": only_live,
        "neither": neither,
        "left_out": left_out,
    }


def build_floor(correct: int = 282, images: int = 300, classes: int = 10, most_frequent: float = 0.12) -> Document:
    accuracy = correct / images if images else 0.0
    return {
        "images": images,
        "correct": correct,
        "accuracy": accuracy,
        "lower": find_interval(accuracy, images)[0],
        "classes": classes,
        "chance": 1 / classes,
        "most_frequent": most_frequent,
    }


def build_comparison(*tests: Document, run: str | None = LIVE, floor: Document | None = None, **live: Any) -> Document:
    """Build the file; without a run there was no live model. `live` replaces members of its part."""
    of_live = {
        "run": run,
        "problem": None,
        "classes": {"shared": ["cat", "dog"], "lost": [], "new": []},
        "labels_changed": {"changed": 0, "compared": 300},
        "tests": list(tests),
    }
    return {
        "format": 1,
        "candidates": [],
        "ships": "final",
        "floor": floor or build_floor(),
        "live": of_live | live if run else None,
    }
