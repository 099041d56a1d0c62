"""Train on classes of very different size: decide how, from counts alone, and build the loss or the order that does it.

`adjust` adds the logarithm of each class's share to its logit in the loss (Menon et al. 2021, "Long-tail learning via
logit adjustment"), so that the network's own logits are as if all classes were equally frequent. `sample` shows all
classes equally often. `none` does nothing.
"""

from __future__ import annotations

import torch
from torch import nn

RATIO = 3.0  # the largest class has this many times the images of the smallest: the control plane asks the same


def count_classes(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Count the images of each class."""
    return torch.bincount(labels, minlength=classes)


def measure_imbalance(counts: torch.Tensor) -> float:
    """Return how many times as many images the largest class has as the smallest."""
    return float(counts.max()) / max(1.0, float(counts.min()))


def choose_imbalance(wish: str, counts: torch.Tensor) -> str:
    """Decide `imbalance`: `auto` adjusts the logits where counts differ by RATIO or more."""
    if wish != "auto":
        return wish
    return "adjust" if measure_imbalance(counts) >= RATIO else "none"


class AdjustedLoss(nn.CrossEntropyLoss):
    """Cross-entropy of logits to which the logarithm of each class's share is added."""

    def __init__(self, counts: torch.Tensor) -> None:
        super().__init__()
        shares = counts.double() / counts.sum()
        self.register_buffer("offsets", shares.clamp(min=1e-9).log().float())

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return super().forward(input + self.offsets, target)


def make_criterion(imbalance: str, counts: torch.Tensor) -> nn.CrossEntropyLoss:
    """Build the loss of a training in steps. `sample` changes the order of the images, not the loss."""
    return AdjustedLoss(counts) if imbalance == "adjust" else nn.CrossEntropyLoss()


def make_fitting_criterion(imbalance: str, counts: torch.Tensor) -> nn.CrossEntropyLoss:
    """Build the loss of a fit to all images at once, where weights do what sampling does in steps."""
    if imbalance != "sample":
        return make_criterion(imbalance, counts)
    return nn.CrossEntropyLoss(weight=counts.sum() / (len(counts) * counts.clamp(min=1).float()))


def draw_balanced(labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw as many image numbers as there are labels, each class about equally often.

    A class shows all its images before it shows one again.
    """
    classes = labels.unique().tolist()
    share = -(-len(labels) // len(classes))
    drawn = torch.cat([draw_often((labels == label).nonzero()[:, 0], share, generator) for label in classes])
    return drawn[torch.randperm(len(drawn), generator=generator)[: len(labels)]]


def draw_often(rows: torch.Tensor, wanted: int, generator: torch.Generator) -> torch.Tensor:
    """Draw `wanted` of these rows: whole rounds of all of them, and a part of one more."""
    rounds = -(-wanted // len(rows))
    return torch.cat([rows[torch.randperm(len(rows), generator=generator)] for _ in range(rounds)])[:wanted]
