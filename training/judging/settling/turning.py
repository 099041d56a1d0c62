"""Settle `rotation`, whether training images are turned a little at random: measure what that costs a fitted head.

Turned by ten degrees, an image is another example of its class in nearly every dataset. Where directions are the
classes, as of pointers, arrows or stripes, it may be an example of the next class, and a training that turns its images
learns from wrong labels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from images.augment import DRAWS, augment
from job.metrics import log
from learning.preparation import Setup, extract_split, is_head_alone, weigh
from torch import nn

from judging.deciding.folds import make_zero_head
from judging.deciding.heads import fit_head
from judging.deciding.imbalance import make_fitting_criterion
from judging.deciding.turning import Turning, decide_turning
from judging.settling.mirroring import describe, mix

MOST_TRAIN, MOST_VALID = 1000, 200
FEWEST = 8  # validation images, of which something can be told
ROUNDS = 25
UNTOLD = "no fitted head could tell otherwise; set `rotation` to false where directions are the classes"
NOTHING, TURN = 0.5, 2  # the random number that changes nothing, and which one of an image's numbers turns it


def settle_turning(setup: Setup) -> Setup:
    """Return the setup with `turned` decided and the reason among its choices."""
    if is_head_alone(setup):  # it is trained on features, without augmentation, but its baseline may not be
        chosen = setup.chosen
        return replace(setup, turned=decide(setup, measures=chosen.profile and chosen.baseline_depth != "head")[0])
    taken, why, figures = decide(setup)
    log(f"rotation={str(taken).lower()}: {why}")
    choice = {"asked": setup.chosen.rotation, "taken": taken, "why": why, **figures}
    return replace(setup, turned=taken, choices={**setup.choices, "rotation": choice})


def decide(setup: Setup, *, measures: bool = True) -> tuple[bool, str, dict[str, Any]]:
    """Return whether images are turned, the reason in words, and the figures behind it."""
    if setup.chosen.rotation != "auto":
        return setup.chosen.rotation == "true", "the recipe says so", {}
    if not (measures and can_tell(setup)):
        return True, UNTOLD, {}
    measured = measure_turning(setup)
    return measured.taken, explain(measured), measured.describe()


def can_tell(setup: Setup) -> bool:
    """Return whether a head can be fitted whose answers say what turning costs."""
    enough = len(setup.dataset.valid) >= FEWEST
    return setup.pretrained == "imagenet" and isinstance(setup.head, nn.Linear) and enough


def explain(measured: Turning) -> str:
    """Return the reason in words."""
    if not measured.able:
        return f"on {measured.images} validation images a fitted head is no better than chance, so nothing can be told"
    told = "about as well as" if measured.taken else "far worse than"
    figures = f"{measured.turned:.1%} against {measured.augmented:.1%} on {measured.images} validation images"
    return f"turned images are recognised {told} images changed otherwise: the right class has {figures}"


def measure_turning(setup: Setup) -> Turning:
    """Fit a head to training images as they are, and let it answer validation images that are turned or else changed.

    Validation images are turned as far as any training image, to either side.
    """
    generator = torch.Generator().manual_seed(setup.chosen.seed)
    head, valid = fit(setup), mix(len(setup.dataset.valid), setup.chosen.seed, MOST_VALID)
    others = [torch.rand((len(part), DRAWS), generator=generator) for part in valid]
    turns = [turn_alone(len(part), generator) for part in valid]
    with torch.no_grad():
        turned = head(change(setup, valid, turns, turn=True)).softmax(1)
        augmented = head(change(setup, valid, others, turn=False)).softmax(1)
    return decide_turning(turned, augmented, setup.dataset.valid.labels[torch.cat(valid)])


def fit(setup: Setup) -> nn.Linear:
    """Fit a head to features of training images."""
    train = setup.dataset.train
    rows = torch.cat(mix(len(train), setup.chosen.seed, MOST_TRAIN))
    features, criterion = extract_split(setup, train)[rows], make_fitting_criterion(*weigh(setup))
    head = make_zero_head(features.shape[1], len(setup.dataset.classes))
    fit_head(head, features, train.labels[rows], penalty=setup.penalty, criterion=criterion, rounds=ROUNDS)
    return head


def turn_alone(count: int, generator: torch.Generator) -> torch.Tensor:
    """Return the random numbers (count, DRAWS) that turn each image to one side or the other, and do nothing else."""
    chance = torch.full((count, DRAWS), NOTHING)
    chance[:, TURN] = torch.randint(2, (count,), generator=generator).float()
    return chance


def change(setup: Setup, parts: list[torch.Tensor], chances: list[torch.Tensor], *, turn: bool) -> torch.Tensor:
    """Return the features of validation images, changed as these numbers say."""
    levels: dict[str, Any] = {"mean": setup.inputs.mean, "std": setup.inputs.std, "size": setup.chosen.image_size}
    return describe(
        setup,
        (
            augment(
                setup.dataset.valid.images(part).to(setup.device),
                chance.to(setup.device),
                flip=False,
                turn=turn,
                **levels,
            )
            for part, chance in zip(parts, chances, strict=True)
        ),
    )
