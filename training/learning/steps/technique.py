"""Hold what a recipe may add to the steps of a training, and give each part of a network its decay and its rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Technique:
    """What a recipe may add to the steps: nothing by default.

    clip_norm: the largest norm of a step's gradient; 0 clips nothing. head_rate: how many times the rate of the other
    layers that of `head` is. averaging: the decay of a moving average of the weights, which is judged and shipped; 0
    averages nothing.
    """

    clip_norm: float = 0.0
    head_rate: float = 1.0
    averaging: float = 0.0
    head: nn.Module | None = None

    def find_rate(self, weight: nn.Parameter, rate: float) -> float:
        """Return the learning rate of a weight."""
        own = self.head.parameters() if self.head is not None else ()
        return rate * self.head_rate if any(weight is each for each in own) else rate


def group_parameters(
    network: nn.Module, weight_decay: float, rate: float, technique: Technique
) -> list[dict[str, Any]]:
    """Group what is trained by decay and rate. Weight decay is for matrices and filters, not for biases or norms."""
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    kinds = [
        (technique.find_rate(weight, rate), weight_decay if weight.ndim > 1 else 0.0, weight.ndim > 1)
        for weight in trained
    ]
    return [
        {
            "params": [weight for weight, own in zip(trained, kinds, strict=True) if own == kind],
            "lr": kind[0],
            "weight_decay": kind[1],
        }
        for kind in sorted(set(kinds), key=kinds.index)
    ]
