"""Decide whether a slightly turned image is another example of its class, by what a head says of turned images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from judging.deciding.measuring import Measured, beats_chance

HARM = 2.5  # standard errors by which turning harms more than the other changes beyond doubt
LOST = 1 / 3  # the part of what the head knows beyond chance that a turn must cost to be left out


@dataclass(frozen=True)
class Turning(Measured):
    """Whether to turn, and why.

    turned, augmented: the mean probability of the right class of images that were turned, and of images that were
    changed otherwise. error: the standard error of their difference. able: whether the head is right more often than
    chance on the latter, without which nothing can be told.
    """

    taken: bool
    turned: float
    augmented: float
    error: float
    images: int
    able: bool


def decide_turning(turned: torch.Tensor, augmented: torch.Tensor, labels: torch.Tensor) -> Turning:
    """Compare a head's probabilities (n, classes) of turned images with those of the same ones changed otherwise.

    Turning helps nearly everywhere, so it is left out only where it clearly costs much of what the head knows.
    """
    rows = torch.arange(len(labels))
    right, others = turned[rows, labels], augmented[rows, labels]
    lost = others - right
    error = float(lost.std()) / math.sqrt(len(lost))
    chance = float(torch.bincount(labels).max()) / len(labels)
    hits = float((augmented.argmax(1) == labels).double().mean())
    able = beats_chance(hits, chance, len(labels))
    harm, known = float(lost.mean()), float(others.mean()) - chance
    harmful = able and harm > HARM * error and harm > LOST * known
    return Turning(not harmful, float(right.mean()), float(others.mean()), error, len(labels), able)
