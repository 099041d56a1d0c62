"""Find labels that look wrong, by what a classifier says of each image that saw neither its label nor its copies.

The features come from weights that never saw these labels: ImageNet's, or else the pixels themselves. On them a kernel
ridge classifier answers for each image out of fold. Copies share a fold: else a wrong label would be confirmed by its
copy. What looks wrong is left out, and the others answer once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

FOLDS, ROUNDS = 5, 2
LANDMARKS, FEW_LANDMARKS = 800, 300  # images through which all are classified, and by which the kernel is chosen
PENALTIES = (1e-3, 1e-2, 1e-1)
WIDTHS = (0.35, 0.7)  # of the kernel, in median distances
LEAST_RIGHT = 0.7  # answers of features: weaker ones cannot tell a wrong label either
FEWEST = 300  # fewer images than these cannot tell a wrong label from a rare example: they are only ranked
SURE, UNLIKELY = 0.6, 0.45  # of what is usual for a class: the other class's score, and the label's own
RANKED = 0.02  # the share of few images that is named

Answer = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Doubt:
    """An image whose label looks wrong: its number, its label, the class that it looks like, and how clearly.

    margin: the score of that class minus the label's own. sure: False in a mere ranking.
    """

    number: int
    label: int
    likely: int
    margin: float
    sure: bool


def find_doubts(features: torch.Tensor, labels: torch.Tensor, groups: Sequence[Any]) -> list[Doubt]:
    """Return the images whose label looks wrong, the clearest first. groups: of each image; copies have the same."""
    classes = int(labels.max()) + 1
    folds = deal_out(groups)
    kernel, penalty = choose_kernel(features, labels, folds, classes)
    kept = torch.ones(len(labels), dtype=torch.bool)
    for _ in range(ROUNDS):
        scores = score_out_of_fold(kernel, labels, folds, classes, penalty, kept)
        wrong = list_wrong(scores, labels)
        kept = torch.ones(len(labels), dtype=torch.bool)
        kept[wrong] = False
    margins = measure_margins(scores, labels)
    sure = len(labels) >= FEWEST and float((scores.argmax(1) == labels).double().mean()) >= LEAST_RIGHT
    chosen = wrong if sure else margins.argsort(descending=True)[: max(1, round(RANKED * len(labels)))]
    chosen = chosen[margins[chosen].argsort(descending=True)]
    likely = scores.argmax(1)
    return [
        Doubt(number, int(labels[number]), int(likely[number]), round(float(margins[number]), 3), sure)
        for number in chosen.tolist()
        if likely[number] != labels[number]
    ]


def deal_out(groups: Sequence[Any]) -> torch.Tensor:
    """Return the fold of each image; a group stays together."""
    names = list(dict.fromkeys(groups))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0)).tolist()
    places = {name: order[number] % FOLDS for number, name in enumerate(names)}
    return torch.tensor([places[group] for group in groups])


def choose_kernel(
    features: torch.Tensor, labels: torch.Tensor, folds: torch.Tensor, classes: int
) -> tuple[torch.Tensor, float]:
    """Return the kernel's columns (n, landmarks) and the penalty that classify best out of fold."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randperm(len(features), generator=generator)[:LANDMARKS]
    distances = measure_distances(features.double(), centres)
    middle = distances[:FEW_LANDMARKS].median()
    every = torch.ones(len(labels), dtype=torch.bool)
    tried = []
    for width in WIDTHS:
        kernel = torch.exp(-distances[:, :FEW_LANDMARKS] / (2 * width**2 * middle))
        for penalty in PENALTIES:
            scores = score_out_of_fold(kernel, labels, folds, classes, penalty, every)
            tried.append((int((scores.argmax(1) == labels).sum()), width, penalty))
    _, width, penalty = max(tried)
    return torch.exp(-distances / (2 * width**2 * middle)), penalty


def measure_distances(features: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Return squared distances to the landmarks, of features that weigh as much as they vary."""
    scaled = (features - features.mean(0)) / features.std().clamp(min=1e-12)
    return torch.cdist(scaled, scaled[centres]).square()


def score_out_of_fold(
    kernel: torch.Tensor, labels: torch.Tensor, folds: torch.Tensor, classes: int, penalty: float, kept: torch.Tensor
) -> torch.Tensor:
    """Return each image's scores (n, classes) by ridge regression on the other folds' kept images."""
    targets = torch.nn.functional.one_hot(labels, classes).double()
    scores = torch.zeros(len(labels), classes, dtype=torch.float64)
    for fold in range(FOLDS):
        own, known = folds == fold, (folds != fold) & kept
        if own.any() and known.any():
            columns = kernel[known]
            middle = targets[known].mean(0)
            system = columns.T @ columns + penalty * torch.eye(kernel.shape[1], dtype=torch.float64)
            weights = torch.linalg.solve(system, columns.T @ (targets[known] - middle))
            scores[own] = kernel[own] @ weights + middle
    return scores


def list_wrong(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """List the images that score like another class, and unlike their label, by what is usual for the classes."""
    own = scores.gather(1, labels[:, None])[:, 0]
    usual = torch.stack([own[labels == label].median() for label in range(scores.shape[1])])
    best, likely = scores.max(1)
    wrong = (likely != labels) & (best >= SURE * usual[likely]) & (own < UNLIKELY * usual[labels])
    return wrong.nonzero()[:, 0]


def measure_margins(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return how much better the best other class scores than the label; negative where the label scores best."""
    own = scores.gather(1, labels[:, None])[:, 0]
    others = scores.scatter(1, labels[:, None], -torch.inf)
    return others.max(1).values - own
