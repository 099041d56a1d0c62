"""Hold what is known of a training's course as plain data, for the rules that judge it: labels, losses, answers.

Nothing here needs smdebug, so these rules judge a training whose tensors could not be saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from judging.evaluate import confusion, fit_temperature, losses

Counts = Sequence[Sequence[int]]
MOST_FOR_TEMPERATURE = 1000  # validation images: a temperature is one number, and is fitted in every epoch


@dataclass(frozen=True)
class Facts:
    """What is known of a training before its first step.

    counts: training images by class. answers: the logits of the last validation, in the order of `labels`. classes: the
    names of the classes.
    """

    counts: Sequence[int]
    labels: torch.Tensor
    answers: Callable[[], torch.Tensor | None]
    batch_size: int
    steps: int
    epochs: int
    classes: Sequence[str] = ()


@dataclass
class Course:
    """What has been seen of a training so far.

    losses: (training step, loss of its batch) of the saved steps. records: the epochs, as in metrics.jsonl. matrix: the
    validation's confusion matrix at the epoch with the best accuracy. tempered: by epoch, the mean validation loss at
    the epoch's best temperature, and the standard error of its difference from the lowest so far, which pairs the
    losses of each image; `lowest` holds these at that epoch. baseline: the content of baseline.json.
    """

    counts: Sequence[int] = ()
    batch_size: int = 0
    steps: int = 0
    epochs: int = 0
    losses: Sequence[tuple[int, float]] = ()
    records: list[dict[str, Any]] = field(default_factory=list)
    matrix: Counts = ()
    tempered: list[tuple[float, float]] = field(default_factory=list)
    lowest: torch.Tensor | None = None
    baseline: dict[str, Any] = field(default_factory=dict)
    ended: bool = False
    classes: Sequence[str] = ()

    @property
    def step(self) -> int:
        """Return the number of training steps made."""
        return self.steps * len(self.records)

    @property
    def share(self) -> float:
        """Return the share of the epochs that were run; all of them once the training has ended."""
        return 1.0 if self.ended else len(self.records) / max(1, self.epochs)

    def list_losses(self, split: str) -> list[float]:
        """List a split's mean losses by epoch."""
        return [float(record[split]["loss"]) for record in self.records if "loss" in record.get(split, {})]

    def name(self, label: int) -> str:
        """Return what a class is called in a sentence."""
        return f"class {self.classes[label]!r}" if label < len(self.classes) else f"class {label}"

    def find_ignorance(self) -> float:
        """Return the loss of a model that knows only how frequent each class is: the entropy of the labels."""
        total = sum(self.counts)
        return -sum(each / total * math.log(each / total) for each in self.counts if each)


def begin_course(facts: Facts | None) -> Course:
    if facts is None:
        return Course()
    return Course(list(facts.counts), facts.batch_size, facts.steps, facts.epochs, classes=facts.classes)


def add_epoch(course: Course, record: dict[str, Any], facts: Facts | None) -> None:
    """Add an epoch's record, the losses of its answers, and the answers if none before were more accurate."""
    reached = record.get("valid", {}).get("accuracy", 0.0)
    best = max((each.get("valid", {}).get("accuracy", 0.0) for each in course.records), default=-1.0)
    course.records.append(record)
    logits = facts.answers() if facts else None
    if facts is None or logits is None or len(logits) != len(facts.labels):
        return
    add_losses(course, temper(logits, facts.labels))
    if reached > best:
        course.matrix = confusion(logits, facts.labels).tolist()


def temper(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return each image's loss at the temperature that lowers their mean most: how sure answers are plays no part."""
    stride = -(-len(labels) // MOST_FOR_TEMPERATURE)
    return losses(logits / fit_temperature(logits[::stride], labels[::stride]), labels)


def add_losses(course: Course, each: torch.Tensor) -> None:
    """Compare an epoch's losses of the validation images with those of the epoch in which their mean was lowest."""
    if course.lowest is None or each.mean() < course.lowest.mean():
        course.lowest = each
    above = each - course.lowest
    error = float(above.std()) / math.sqrt(len(above)) if len(above) > 1 else 0.0
    course.tempered.append((float(each.mean()), error))
