"""Tell images of no class: score an answer by how well it fits any class, and set the score below which none fits.

Two methods, both functions of the logits alone, so that every engine that serves a network can apply them: the largest
logit, and the distance to the nearest logits of training images. Which one is taken is decided on classes that are held
out from a head; what is reported comes from other classes. The threshold is a conformal rank of the validation scores:
of images like them at most LOST are called unknown, whatever the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from judging.intervals import find_interval

METHODS = ("max_logit", "neighbours")
LOST = 0.05
FEWEST = 100  # validation images: below that the rank says too little, and nothing is called unknown
FEWEST_CLASSES = 6  # half of them to choose by, half to report on, two at least in each and two to know
NUMBERS = 100_000  # of the nearest neighbours, in the manifest
MOST_OF_A_CLASS = 20
DIGITS = 4


class FitAndAnswer(Protocol):
    """Fit a head on the training images of some classes, and return logits (n, classes) on all images of a split."""

    def __call__(self, classes: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]: ...


def score(method: str, logits: torch.Tensor, references: torch.Tensor | None = None) -> torch.Tensor:
    """Return how well each answer fits a known class; higher is better."""
    if method == "max_logit":
        return logits.double().amax(1)
    assert references is not None
    return -torch.cdist(logits.double(), references.double()).amin(1)


def choose_references(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Choose the logits of training images to keep, as many of each class: rounded, as the manifest holds them."""
    classes = logits.shape[1]
    most = max(1, min(MOST_OF_A_CLASS, NUMBERS // classes**2))
    kept = [logits[labels == label][:most] for label in labels.unique().tolist()]
    return (torch.cat(kept).double() * 100).round() / 100


def find_threshold(scores: torch.Tensor) -> float | None:
    """Return the conformal threshold: the score of rank ⌊LOST (n + 1)⌋ from below. None for too few images."""
    if len(scores) < FEWEST:
        return None
    return float(scores.sort().values[int(LOST * (len(scores) + 1)) - 1])


def describe_unknown(
    valid: torch.Tensor, method: str = "max_logit", references: torch.Tensor | None = None
) -> dict[str, Any] | None:
    """Build the manifest's member `unknown` from the validation's logits; None where nothing is to be called so."""
    threshold = find_threshold(score(method, valid, references))
    if threshold is None:
        return None
    kept = {"references": references.tolist()} if references is not None else {}
    return {"method": method, "threshold": threshold, "images": len(valid), **kept}


def measure_coverage(known: torch.Tensor) -> dict[str, Any]:
    """Return the share of images of known classes that are called known, with its 95 % interval."""
    share = float(known.double().mean())
    low, high = find_interval(share, len(known))
    return {"share": share, "low": low, "high": high, "images": len(known)}


def measure_separation(known: torch.Tensor, foreign: torch.Tensor) -> dict[str, float]:
    """Return the AUROC of the scores, and the share of foreign images called known where 95 % of the known ones are."""
    order = torch.cat([known, foreign]).sort().values
    ranks = (torch.searchsorted(order, known) + torch.searchsorted(order, known, right=True) + 1).double() / 2
    area = (ranks.sum() - len(known) * (len(known) + 1) / 2) / (len(known) * len(foreign))
    limit = known.sort().values[int(LOST * len(known))]
    return {"auroc": float(area), "fpr_at_95": float((foreign >= limit).double().mean())}


def divide_classes(classes: int) -> tuple[list[list[int]], list[list[int]]]:
    """Return groups of classes to hold out: some to choose the method by, and others to report on."""
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(0)).tolist()
    half = classes // 2
    choosing, reporting = order[:half], order[half:]
    return split_in_two(choosing), split_in_two(reporting)


def split_in_two(classes: Sequence[int]) -> list[list[int]]:
    """Divide classes into two groups, neither of them empty where there are two."""
    middle = len(classes) // 2
    return [list(group) for group in (classes[:middle], classes[middle:]) if group]


def compare_methods(
    fit: FitAndAnswer, labels: tuple[torch.Tensor, torch.Tensor], classes: int
) -> dict[str, Any] | None:
    """Choose a method and measure it, on classes that a head has not learnt. None for too few classes.

    fit: returns logits of (train, valid). labels: of both.
    """
    if classes < FEWEST_CLASSES:
        return None
    choosing, reporting = divide_classes(classes)
    areas = average([hold_out(fit, labels, classes, group) for group in choosing])
    method = max(METHODS, key=lambda each: areas[each]["auroc"])
    told = average([hold_out(fit, labels, classes, group) for group in reporting])
    chosen_on, held_out = sum(map(len, choosing)), sum(map(len, reporting))
    return {"method": method, **told[method], "held_out": held_out, "chosen_on": chosen_on, "others": told}


def hold_out(
    fit: FitAndAnswer, labels: tuple[torch.Tensor, torch.Tensor], classes: int, group: Sequence[int]
) -> dict[str, dict[str, float]]:
    """Measure each method where the classes of a group are unknown."""
    learnt = [label for label in range(classes) if label not in group]
    train, valid = fit(learnt)
    own = torch.isin(labels[0], torch.tensor(learnt))
    numbers = torch.full((classes,), -1)
    numbers[learnt] = torch.arange(len(learnt))
    references = choose_references(train[own], numbers[labels[0][own]])
    is_known = torch.isin(labels[1], torch.tensor(learnt))
    found = {}
    for method in METHODS:
        scores = score(method, valid, references)
        found[method] = measure_separation(scores[is_known], scores[~is_known])
    return found


def average(found: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        method: {name: sum(each[method][name] for each in found) / len(found) for name in found[0][method]}
        for method in METHODS
    }
