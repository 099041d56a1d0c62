"""Say whether an image belongs to any class, by the rule that training wrote into the manifest as `unknown`.

A rule has a method and a threshold: an answer that fits no class better than the threshold is unknown. Methods: the
largest logit (`max_logit`), or the distance to the nearest logits of training images (`neighbours`, `references`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

NEAREST = 3  # classes that are named where none fits


@dataclass(frozen=True)
class Rule:
    """When an image is known: if its score reaches the threshold."""

    threshold: float
    references: np.ndarray | None = None

    def score(self, logits: np.ndarray) -> float:
        """Return how well an answer (classes,) fits a known class; higher is better."""
        logits = np.asarray(logits, np.float64)
        if self.references is None:
            return float(logits.max())
        return -float(np.sqrt(((self.references - logits) ** 2).sum(axis=1)).min())

    def judge(self, logits: np.ndarray, ranked: list[str]) -> dict[str, Any]:
        """Return the members that an answer gets: `known`, and where it is false the nearest classes."""
        known = self.score(logits) >= self.threshold
        return {"known": True} if known else {"known": False, "nearest": ranked[:NEAREST]}


def read_rule(manifest: dict[str, Any]) -> Rule | None:
    """Return the manifest's rule, or None if nothing is to be called unknown. Raises ValueError for another method."""
    told = manifest.get("unknown")
    if not told:
        return None
    if told["method"] not in ("max_logit", "neighbours"):
        raise ValueError(f"the manifest's method for unknown images is {told['method']!r}, which this code lacks")
    kept = np.array(told["references"], np.float64) if told["method"] == "neighbours" else None
    return Rule(told["threshold"], kept)
