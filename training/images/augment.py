"""Augment whole batches on the device with random changes that keep the class.

Slight shifts, zooms, stretches, rotations and changes of light are safe for photographs, digits and scans alike.
Mirroring is not, since it can turn one letter into another, so only data that look like photographs, or the recipe
(`horizontal_flip`), enable it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn.functional import affine_grid, grid_sample

from images.pixels import MEAN, STD, normalise

DRAWS = 8  # random numbers that an image needs
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
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> torch.Tensor:
    """Turn bytes (n, 3, s, s) into normalised, randomly augmented inputs (n, 3, size, size).

    chance: random numbers (n, DRAWS) in [0, 1), on the batch's device. They were drawn on the CPU, so that every device
    gets the same.
    """
    count = len(batch)
    chance = chance.mul(2).sub_(1)
    matrices = make_matrices(chance, size / batch.shape[-1], flip)
    grid = affine_grid(matrices, [count, 3, size, size], align_corners=False)
    moved = grid_sample(batch.float(), grid, padding_mode="border", align_corners=False)
    return normalise(relight(moved, chance[:, 6:]), mean, std)


def make_matrices(chance: torch.Tensor, share: float, flip: bool) -> torch.Tensor:
    """Make affine matrices (n, 2, 3) from random numbers (n, 8) in [-1, 1).

    share: the fraction of the cached square's side that an evaluation sees.
    """
    low, high = ZOOM
    zoom = share * (low + (high - low) * (chance[:, 0] + 1) / 2)
    wide, tall = zoom * (1 + STRETCH * chance[:, 1]), zoom * (1 - STRETCH * chance[:, 1])
    mirror = torch.where(chance[:, 5] < 0, -1.0, 1.0) if flip else torch.ones_like(chance[:, 5])
    angle = TURN * chance[:, 2]
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
