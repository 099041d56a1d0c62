"""Hold the image sizes that torchvision's networks take, for the control plane, which has no torchvision.

A network's own size is the one its ImageNet weights were trained with. A contract test compares with torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SMALLEST, USUAL, LARGEST = 16, 224, 1024  # of any recipe
OWN_SIZES: Mapping[str, int] = {
    "efficientnet_b1": 240,
    "efficientnet_b2": 288,
    "efficientnet_b3": 300,
    "efficientnet_b4": 380,
    "efficientnet_b5": 456,
    "efficientnet_b6": 528,
    "efficientnet_b7": 600,
    "efficientnet_v2_l": 480,
    "efficientnet_v2_m": 480,
    "efficientnet_v2_s": 384,
    "inception_v3": 299,
    "regnet_y_128gf": 384,
    "swin_v2_b": 256,
    "swin_v2_s": 256,
    "swin_v2_t": 256,
    "vit_h_14": 518,
}
# By the beginning of a name: the fewest pixels that the network's layers leave anything of.
LEAST_SIZES: Mapping[str, int] = {
    "alexnet": 63,
    "convnext_": 32,
    "densenet": 29,
    "inception_v3": 75,
    "squeezenet1_0": 21,
    "squeezenet1_1": 17,
    "vgg": 32,
}
FIXED = ("vit_", "maxvit_")  # position embeddings or windows of one size


@dataclass(frozen=True)
class ImageInput:
    """The image sizes of a network in pixels: its own, the least and the most that it takes."""

    size: int
    least: int
    most: int


def find_input(architecture: str) -> ImageInput:
    """Return the image sizes of a network."""
    own = OWN_SIZES.get(architecture, USUAL)
    if architecture.startswith(FIXED):
        return ImageInput(own, own, own)
    least = next((size for name, size in LEAST_SIZES.items() if architecture.startswith(name)), SMALLEST)
    return ImageInput(own, least, LARGEST)
