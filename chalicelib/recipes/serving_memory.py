"""Estimate how much memory a serverless endpoint needs for a network. Pure.

SageMaker offers 1 to 6 GB in steps of one. An endpoint with too little dies at its first request, minutes after the
run's end, so a network that cannot fit is refused before anything is launched. The estimate is the serving stack's own
memory, three times the weights (the file, the network, the copy that onnxruntime or inductor makes), and the
activations of one image, which grow with its area.
"""

from __future__ import annotations

from collections.abc import Mapping

MOST_MB = 6144
STEP_MB = 1024
USUAL_MB = 3072  # processor time is allotted in proportion to memory
STACK_MB = 800
COPIES = 3
PICTURE_MB, PICTURE_PIXELS = 64, 224
SMALL_MB = 120
# Megabytes of 32-bit weights if they exceed SMALL_MB; torchvision states the number of parameters.
WEIGHTS_MB: Mapping[str, int] = {
    "regnet_y_128gf": 2460,
    "vit_h_14": 2416,
    "vit_l_32": 1169,
    "vit_l_16": 1164,
    "convnext_large": 754,
    "regnet_y_32gf": 553,
    "vgg19_bn": 548,
    "vgg19": 548,
    "vgg16_bn": 528,
    "vgg16": 528,
    "vgg13_bn": 508,
    "vgg13": 508,
    "vgg11_bn": 507,
    "vgg11": 507,
    "wide_resnet101_2": 484,
    "efficientnet_v2_l": 452,
    "regnet_x_32gf": 411,
    "resnext101_32x8d": 339,
    "convnext_base": 338,
    "vit_b_32": 337,
    "swin_v2_b": 335,
    "swin_b": 335,
    "vit_b_16": 331,
    "regnet_y_16gf": 319,
    "resnext101_64x4d": 318,
    "wide_resnet50_2": 263,
    "efficientnet_b7": 253,
    "alexnet": 233,
    "resnet152": 230,
    "regnet_x_16gf": 207,
    "efficientnet_v2_m": 207,
    "convnext_small": 192,
    "swin_v2_s": 190,
    "swin_s": 189,
    "resnet101": 170,
    "efficientnet_b6": 164,
    "regnet_x_8gf": 151,
    "regnet_y_8gf": 150,
}


def estimate_memory(architecture: str, image_size: int) -> int:
    """Estimate the megabytes that an endpoint for this network needs."""
    weights = WEIGHTS_MB.get(architecture, SMALL_MB)
    return STACK_MB + COPIES * weights + round(PICTURE_MB * (image_size / PICTURE_PIXELS) ** 2)


def choose_memory(needed: int) -> int:
    """Choose the memory to request in megabytes: one of SageMaker's steps."""
    return min(MOST_MB, max(USUAL_MB, -(-needed // STEP_MB) * STEP_MB))
