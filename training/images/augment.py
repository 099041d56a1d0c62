"""Augment whole batches on the device with random changes that keep the class.

Slight shifts, zooms, stretches, rotations and changes of light are safe for photographs, digits and scans alike.
Mirroring is not, since it can turn one letter into another and left into right. The recipe's `horizontal_flip` says
whether images are mirrored; `auto` is settled by measuring (`judging/settling/mirroring.py`). Where classes are
directions, rotations are left out, by measuring too (`judging/settling/turning.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn.functional import affine_grid, grid_sample

from images.pixels import MEAN, STD, normalise

DRAWS, MORE_DRAWS = 8, 10  # random numbers that an image needs, and for `augment_more`
SHIFT = 0.08
ZOOM = (0.85, 1.15)
STRETCH = 0.08
TURN = math.radians(10)
LIGHT = 0.2


def augment(
    batch: torch.Tensor,
    chance: torch.Tensor,
    *,
    size: int,
    flip: bool,
    turn: bool = True,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> torch.Tensor:
    """Turn bytes (n, 3, s, s) into normalised, randomly augmented inputs (n, 3, size, size).

    chance: random numbers (n, DRAWS) in [0, 1), on the batch's device. They were drawn on the CPU, so that every device
    gets the same.
    """
    count = len(batch)
    chance = chance.mul(2).sub_(1)
    matrices = make_matrices(chance, size / batch.shape[-1], flip, turn)
    grid = affine_grid(matrices, [count, 3, size, size], align_corners=False)
    moved = grid_sample(batch.float(), grid, padding_mode="border", align_corners=False)
    return normalise(relight(moved, chance[:, 6:]), mean, std)


def augment_more(
    batch: torch.Tensor,
    chance: torch.Tensor,
    *,
    size: int,
    flip: bool,
    turn: bool = True,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> torch.Tensor:
    """Do what `augment` does to geometry, and one more change to each image, of random kind and strength.

    That is the idea of TrivialAugment (Müller and Hutter 2021), on whole batches: shear, shift or turn far, or change
    light, contrast, colour, the number of levels, or invert what is bright. Without `turn` nothing is sheared or turned
    far either, which would change directions too.
    """
    count, shares = len(batch), chance.mul(2).sub_(1)
    kinds, strength = (chance[:, 8] * len(CHANGES)).long(), shares[:, 9].view(-1, 1, 1, 1)
    if not turn:
        kinds = torch.where(torch.isin(kinds, torch.tensor(DIRECTED, device=kinds.device)), STILL, kinds)
    more = make_far_matrices(kinds, shares[:, 9])
    near = torch.cat([make_matrices(shares, size / batch.shape[-1], flip, turn), more[:, 2:]], dim=1)
    grid = affine_grid((near @ more)[:, :2], [count, 3, size, size], align_corners=False)
    moved = grid_sample(batch.float(), grid, padding_mode="border", align_corners=False)
    for number, change in enumerate(CHANGES):
        if change is not None:
            moved = torch.where((kinds == number).view(-1, 1, 1, 1), change(moved, strength), moved)
    return normalise(moved.clamp(0, 255), mean, std)


def make_far_matrices(kinds: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Make affine matrices (n, 3, 3): the geometric change of each image's kind, and no change for the others."""
    matrices = torch.eye(3, device=kinds.device).repeat(len(kinds), 1, 1)
    for number, (row, column, most) in enumerate(FAR):
        matrices[:, row, column] += torch.where(kinds == number, most * strength, 0.0)
    angle = torch.where(kinds == len(FAR), FAR_TURN * strength, 0.0)
    turn = torch.eye(3, device=kinds.device).repeat(len(kinds), 1, 1)
    turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1] = angle.cos(), -angle.sin(), angle.sin(), angle.cos()
    return matrices @ turn


def invert_bright(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Invert the levels above a threshold, lower for a greater strength."""
    return torch.where(images >= 255 * (1 - strength.abs()), 255 - images, images)


def drop_levels(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Keep fewer levels: from 256 down to 4."""
    step = 2 ** (strength.abs() * 6).floor()
    return (images / step).floor() * step


def mix_colours(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    grey = images.mean(dim=1, keepdim=True)
    return grey + (images - grey) * (1 + 0.99 * strength)


def stretch_contrast(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    return middle + (images - middle) * (1 + 0.99 * strength)


def change_light(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    return images * (1 + 0.99 * strength)


FAR = ((0, 1, 0.5), (1, 0, 0.5), (0, 2, 0.3), (1, 2, 0.3))  # shears and shifts: row, column, and the most of each
FAR_TURN = math.radians(45)
DIRECTED, STILL = (0, 1, len(FAR)), len(FAR) + 1  # the kinds that change directions, and the one that changes nothing
# By an image's kind: the first ones are geometric.
CHANGES = (*[None] * (len(FAR) + 2), change_light, stretch_contrast, mix_colours, drop_levels, invert_bright)


def make_matrices(chance: torch.Tensor, share: float, flip: bool, turn: bool = True) -> torch.Tensor:
    """Make affine matrices (n, 2, 3) from random numbers (n, 8) in [-1, 1).

    share: the fraction of the cached square's side that an evaluation sees.
    """
    low, high = ZOOM
    zoom = share * (low + (high - low) * (chance[:, 0] + 1) / 2)
    wide, tall = zoom * (1 + STRETCH * chance[:, 1]), zoom * (1 - STRETCH * chance[:, 1])
    mirror = torch.where(chance[:, 5] < 0, -1.0, 1.0) if flip else torch.ones_like(chance[:, 5])
    angle = TURN * chance[:, 2] if turn else torch.zeros_like(chance[:, 2])
    cos, sin = angle.cos(), angle.sin()
    rows = [
        wide * cos * mirror,
        -tall * sin,
        SHIFT * chance[:, 3],
        wide * sin * mirror,
        tall * cos,
        SHIFT * chance[:, 4],
    ]
    return torch.stack(rows, dim=1).view(-1, 2, 3)


def relight(batch: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    """Change contrast and brightness of a batch (levels 0 to 255) by random numbers (n, 2) in [-1, 1)."""
    contrast = (1 + LIGHT * chance[:, 0]).view(-1, 1, 1, 1)
    brightness = (255 * LIGHT / 2 * chance[:, 1]).view(-1, 1, 1, 1)
    return batch.sub(128).mul_(contrast).add_(brightness + 128).clamp_(0, 255)


def choose_flip(wish: str, photographs: bool) -> bool:
    """Decide `horizontal_flip`: true, false, or auto, which mirrors data that look like photographs."""
    return photographs if wish == "auto" else wish == "true"
