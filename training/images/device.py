"""Hold the images of a split in the memory of a GPU, as bytes, where they fit."""

from __future__ import annotations

import torch

from images.assembly import Split
from images.streaming import ImageStream

SHARE = 0.4  # of the free memory; the rest is for the network's activations
STEP = 512  # images that are copied at a time


def hold_split(split: Split, device: torch.device, free: int | None = None) -> torch.Tensor | None:
    """Return a split's images on a device, or None if they are decoded on demand or do not fit.

    free: the bytes that the device has left; by default it is asked.
    """
    if isinstance(split.cache, ImageStream) or not len(split):
        return None
    one = split.images(torch.tensor([0]))
    free = torch.cuda.mem_get_info(device)[0] if free is None else free
    if one.numel() * len(split) > SHARE * free:
        return None
    held = torch.empty((len(split), *one.shape[1:]), dtype=torch.uint8, device=device)
    for chosen in torch.arange(len(split)).split(STEP):
        held[chosen[0] : chosen[-1] + 1] = split.images(chosen).to(device)
    return held
