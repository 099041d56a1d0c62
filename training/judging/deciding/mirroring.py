"""Decide whether a mirror image is another example of its class, by what a head learns from mirror images.

One head is fitted to the images and their mirror images, another to the images and slightly changed ones, as every
training sees them. Where left and right are classes of their own, the first head finds the right class far less often.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from judging.deciding.heads import fit_head
from judging.deciding.measuring import Measured, beats_chance

PENALTY = 1e-2  # of standardised features
HARM = 2.5  # standard errors by which mirror images harm more than other changes beyond doubt
LOST = 1 / 3  # the part of what a head knows beyond chance that mirror images may cost: directions cost all of it


@dataclass(frozen=True)
class Mirroring(Measured):
    """Whether to mirror, and why.

    mirrored, augmented: the mean probability of the right class by a head that learnt from mirror images, and by one
    that learnt from images changed otherwise. error: the standard error of their difference. able: whether the second
    head is right more often than chance, without which nothing can be told.
    """

    taken: bool
    mirrored: float
    augmented: float
    error: float
    images: int
    able: bool


@dataclass(frozen=True)
class Features:
    """Features of the same images in the same order: plain, mirrored, and changed by the other augmentations."""

    plain: torch.Tensor
    mirrored: torch.Tensor
    augmented: torch.Tensor
    labels: torch.Tensor


def decide_mirroring(train: Features, valid: torch.Tensor, labels: torch.Tensor) -> Mirroring:
    """Compare what two heads say of validation images, whose features are those that the endpoint sees.

    Mirroring is forbidden where it clearly harms more than the other augmentations do, where so few images cannot rule
    out that it costs much of what the head knows, and where no head learns anything.
    """
    by_mirror, by_others = (answer(train, each, valid) for each in (train.mirrored, train.augmented))
    rows = torch.arange(len(labels))
    lost = by_others[rows, labels] - by_mirror[rows, labels]
    error = float(lost.std()) / math.sqrt(len(lost))
    chance = float(torch.bincount(labels).max()) / len(labels)
    right = float((by_others.argmax(1) == labels).double().mean())
    able = beats_chance(right, chance, len(labels))
    mirrored, augmented = (float(each[rows, labels].mean()) for each in (by_mirror, by_others))
    harm = augmented - mirrored
    harmless = harm <= HARM * error and harm + error <= LOST * (augmented - chance)
    return Mirroring(able and harmless, mirrored, augmented, error, len(labels), able)


def answer(train: Features, more: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Fit a head to plain features and these ones of the same images. Return its probabilities for `valid`."""
    known, labels = torch.cat([train.plain, more]), train.labels.repeat(2)
    mean, spread = known.mean(0), known.std(0).clamp(min=1e-6)
    head = nn.Linear(known.shape[1], int(labels.max()) + 1)
    fit_head(head, (known - mean) / spread, labels, penalty=PENALTY)
    with torch.no_grad():
        return head((valid - mean) / spread).softmax(1)
