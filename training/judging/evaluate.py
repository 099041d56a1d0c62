"""Measure how good a classifier is: pure functions of logits (n, classes) and class numbers (n,)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

# The objective `score` is accuracy minus this fraction of the mean negative log-likelihood, which breaks ties.
LIKELIHOOD_WEIGHT = 0.1
BINS = 15
TEMPERATURES = (0.5, 5.0)
FEWEST_FOR_TEMPERATURE = 50  # validation images
MOST_FOR_TEMPERATURE = 2000  # more would only take longer to tell whether a temperature helps
REPETITIONS, FOLDS = 2, 5
RESAMPLES = 200
# The loss of a diverged network is bounded: a tuner needs a number, and JSON has no infinity.
WORST = 100.0


def measure(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Compute the metrics that an epoch reports: loss, accuracy, macro F1, score, and the mean and the lowest recall.

    Classes without an image have no recall and are left out.
    """
    loss = float(losses(logits, labels).mean())
    accuracy = float(hits(logits, labels).mean())
    counts = confusion(logits, labels)
    held = counts.sum(1)
    recalls = counts.diagonal()[held > 0] / held[held > 0]
    return {
        "loss": loss,
        "accuracy": accuracy,
        "macro_f1": macro(counts, "f1"),
        "macro_recall": float(recalls.mean()),
        "lowest_recall": float(recalls.min()),
        "score": accuracy - LIKELIHOOD_WEIGHT * loss,
    }


def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the bounded negative log-likelihood of each example."""
    each = cross_entropy(logits.double(), labels, reduction="none")
    return each.nan_to_num(nan=WORST, posinf=WORST).clamp(max=WORST)


def hits(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (logits.argmax(1) == labels).double()


def confusion(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Count images by true class (rows) and predicted class (columns)."""
    classes = logits.shape[1]
    return torch.bincount(labels * classes + logits.argmax(1), minlength=classes**2).view(classes, classes)


def by_class(counts: torch.Tensor) -> list[dict[str, float | None]]:
    """Compute precision, recall, F1 and support of each class, which are None for a class without images.

    Nothing is known of such a class. Of the others, one that is never predicted has a precision of 0.
    """
    right, predicted, support = counts.diagonal().tolist(), counts.sum(0).tolist(), counts.sum(1).tolist()
    return [describe_class(*each) for each in zip(right, predicted, support, strict=True)]


def describe_class(hit: int, said: int, held: int) -> dict[str, float | None]:
    if not held:
        return {"precision": None, "recall": None, "f1": None, "support": 0}
    return {"precision": hit / max(said, 1), "recall": hit / held, "f1": 2 * hit / (said + held), "support": held}


def macro(counts: torch.Tensor, name: str) -> float:
    """Average a measure of by_class over the classes that have images."""
    values = [value for row in by_class(counts) if (value := row[name]) is not None]
    return sum(values) / max(1, len(values))


def describe_test(
    logits: torch.Tensor, labels: torch.Tensor, classes: Sequence[str], temperature: float
) -> dict[str, Any]:
    """Compute all test metrics. temperature: as fitted on the validation split."""
    counts = confusion(logits, labels)
    rows = by_class(counts)
    measured = measure(logits, labels)
    return {
        "images": len(labels),
        "loss": measured["loss"],
        "accuracy": measured["accuracy"],
        **{f"macro_{name}": macro(counts, name) for name in ("precision", "recall", "f1")},
        "classes": [{"class": name, **row} for name, row in zip(classes, rows, strict=True)],
        "confusion": counts.tolist(),
        "calibration": calibrate(logits, labels, temperature),
    }


def calibrate(logits: torch.Tensor, labels: torch.Tensor, temperature: float) -> dict[str, Any]:
    """Compute the expected calibration error, as it is and at a temperature; the bins are those at the temperature."""
    bins = list_bins(logits / temperature, labels)
    return {
        "ece": calibration_error(list_bins(logits, labels)),
        "temperature": temperature,
        "ece_at_temperature": calibration_error(bins),
        "bins": bins,
    }


def list_bins(logits: torch.Tensor, labels: torch.Tensor) -> list[dict[str, float]]:
    """Group examples by confidence into BINS bins of equal width; empty bins are left out."""
    confidence = logits.double().softmax(1).nan_to_num(0).amax(1)
    places = (confidence * BINS).long().clamp(max=BINS - 1)
    correct = hits(logits, labels)
    return [
        {
            "images": int((places == place).sum()),
            "confidence": float(confidence[places == place].mean()),
            "accuracy": float(correct[places == place].mean()),
        }
        for place in places.unique().tolist()
    ]


def calibration_error(bins: Sequence[dict[str, float]]) -> float:
    total = sum(row["images"] for row in bins)
    return sum(row["images"] * abs(row["confidence"] - row["accuracy"]) for row in bins) / max(1, total)


def choose_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Choose the temperature that the endpoint divides logits by, from the validation split; 1 leaves them as they are.

    It is fitted only if temperatures fitted without an image lower that image's loss by more than one standard error.
    Few images cannot tell: a temperature at its bound may make the likelihood of new images many times worse.
    """
    if len(labels) < FEWEST_FOR_TEMPERATURE:
        return 1.0
    gains = measure_gains(logits[:MOST_FOR_TEMPERATURE], labels[:MOST_FOR_TEMPERATURE])
    if not float(gains.mean()) > float(gains.std()) / math.sqrt(len(gains)):
        return 1.0
    return fit_temperature(logits, labels)


def measure_gains(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return how much a temperature fitted on the other folds lowers each image's loss, averaged over repetitions."""
    generator, before = torch.Generator().manual_seed(0), losses(logits, labels)
    gains = torch.zeros(len(labels), dtype=torch.float64)
    for _ in range(REPETITIONS):
        for fold in torch.randperm(len(labels), generator=generator).tensor_split(FOLDS):
            rest = torch.ones(len(labels), dtype=torch.bool)
            rest[fold] = False
            temperature = fit_temperature(logits[rest], labels[rest])
            gains[fold] += before[fold] - losses(logits[fold] / temperature, labels[fold])
    return gains / REPETITIONS


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Find the temperature in TEMPERATURES with the lowest loss (golden-section search on its logarithm)."""
    low, high = (math.log(end) for end in TEMPERATURES)
    shrink = (math.sqrt(5) - 1) / 2
    left, right = high - shrink * (high - low), low + shrink * (high - low)
    at_left, at_right = (loss_at(place, logits, labels) for place in (left, right))
    while high - low > 2e-3:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - shrink * (high - low)
            at_left = loss_at(left, logits, labels)
        else:
            low, left, at_left = left, right, at_right
            right = low + shrink * (high - low)
            at_right = loss_at(right, logits, labels)
    return math.exp((low + high) / 2)


def loss_at(logarithm: float, logits: torch.Tensor, labels: torch.Tensor) -> float:
    return float(losses(logits / math.exp(logarithm), labels).mean())


def standard_error(logits: torch.Tensor, labels: torch.Tensor, objective: str) -> float:
    """Estimate the standard error of the objective from its examples, or by bootstrap for macro F1."""
    count = len(labels)
    if count < 2:
        return 0.0
    if objective == "macro_f1":
        return resample_error(logits, labels)
    each = hits(logits, labels)
    if objective == "score":
        each = each - LIKELIHOOD_WEIGHT * losses(logits, labels)
    return float(each.std() / math.sqrt(count))


def resample_error(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Bootstrap macro F1 with a fixed seed, so that an evaluation is repeatable."""
    draws = torch.randint(len(labels), (RESAMPLES, len(labels)), generator=torch.Generator().manual_seed(0))
    values = [macro(confusion(logits[draw], labels[draw]), "f1") for draw in draws]
    return float(torch.tensor(values, dtype=torch.float64).std())
