"""Turn decoded pixels into the input of a network, exactly as the endpoint does for every prediction.

A contract test compares this with the preprocessing in `inference/`, tensor by tensor: change both or neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torchvision.transforms.functional import center_crop

from images.decoding.decoder import UnreadableImage as UnreadableImage
from images.decoding.decoder import choose_resize as choose_resize
from images.decoding.decoder import open_rgb as open_rgb
from images.decoding.decoder import to_square as to_square

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input: scale its shorter side, crop the centre, normalise."""

    image_size: int
    resize_size: int
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    interpolation: str = "bilinear"


def crop_centre(batch: torch.Tensor, size: int) -> torch.Tensor:
    """Crop the centre of a batch (n, 3, h, w) to (n, 3, size, size)."""
    return center_crop(batch, [size, size])


def normalise(batch: torch.Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> torch.Tensor:
    """Turn levels 0 to 255 of shape (n, 3, h, w) into normalised floats, channels last; ImageNet's by default."""
    means, deviations = (hold_levels(tuple(values), batch.device) for values in (mean, std))
    batch = batch.to(torch.float32).div_(255).sub_(means).div_(deviations)
    return batch.contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=16)
def hold_levels(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Return a value for each channel, made on the device once: making it for every batch would let a GPU wait."""
    return torch.tensor(values, device=device).view(1, 3, 1, 1)
