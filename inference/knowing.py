"""Say whether an image belongs to any class, by the rule that training wrote into the manifest as `unknown`.

A rule has a method and a threshold: an answer that fits no class better than the threshold is unknown. Methods: the
largest logit (`max_logit`), or the distance to the nearest logits of training images (`neighbours`, `references`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

NEAREST = 3  # classes that are named where none fits


@dataclass(frozen=True)
class Rule:
    """When an image is known: if its score reaches the threshold."""

    threshold: float
    references: torch.Tensor | None = None

    def score(self, logits: torch.Tensor) -> float:
        """Return how well an answer (classes,) fits a known class; higher is better."""
        logits = logits.double().cpu()
        if self.references is None:
            return float(logits.max())
        return -float(torch.cdist(logits[None], self.references).min())

    def judge(self, logits: torch.Tensor, ranked: list[str]) -> dict[str, Any]:
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
    kept = torch.tensor(told["references"], dtype=torch.float64) if told["method"] == "neighbours" else None
    return Rule(told["threshold"], kept)
