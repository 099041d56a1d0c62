"""Estimate how much memory an endpoint needs for a network, and how many workers fit into a machine. Pure.

An endpoint with too little memory dies at its first request, minutes after the run's end, so a network that cannot fit
is refused before anything is launched. A server has one Java process and some workers. Each worker has its own Python
and its own network, and needs the more of two things: three times the weights while it loads (the file, what is read,
the network), or, while it answers, the network, a copy of it, the activations of one image (which grow with its area)
and the costliest image that `inference/preprocessing.py` lets in. A contract test measures a real server.

SageMaker offers 1 to 6 GB to a serverless endpoint, in steps of one. It has one worker: SageMaker hands it one request
at a time, and TorchServe by itself would start one for each processor.
"""

from __future__ import annotations

from collections.abc import Mapping

MOST_MB = 6144
STEP_MB = 1024
USUAL_MB = 3072  # processor time is allotted in proportion to memory
SERVER_MB, WORKER_MB = 480, 400  # TorchServe's Java process; a worker's Python with torch, before it has a network
SPARED = 0.1  # the share of a machine's memory that its system keeps
LOADED, SERVED = 3, 2  # copies of the weights while a worker loads them, and while it answers
ACTIVATIONS_MB, ACTIVATIONS_PIXELS = 64, 224
COSTLIEST_IMAGE_MB = 590  # a progressive CMYK JPEG of 50 megapixels: its coefficients and its pixels
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
    """Estimate the megabytes that an endpoint for this network needs: a server with one worker."""
    return SERVER_MB + estimate_worker(architecture, image_size)


def estimate_worker(architecture: str, image_size: int) -> int:
    """Estimate the megabytes of one worker."""
    weights = WEIGHTS_MB.get(architecture, SMALL_MB)
    activations = round(ACTIVATIONS_MB * (image_size / ACTIVATIONS_PIXELS) ** 2)
    return WORKER_MB + max(LOADED * weights, SERVED * weights + activations + COSTLIEST_IMAGE_MB)


def count_workers(architecture: str, image_size: int, processors: int, memory_mb: int) -> int:
    """Return how many workers a machine runs: as many as its memory holds, and no more than it has processors."""
    free = spare_system(memory_mb) - SERVER_MB
    return max(1, min(processors, free // estimate_worker(architecture, image_size)))


def spare_system(memory_mb: int) -> int:
    """Return the megabytes of a machine that are left to the server."""
    return int(memory_mb * (1 - SPARED))


def choose_memory(needed: int) -> int:
    """Choose the memory to request in megabytes: one of SageMaker's steps."""
    return min(MOST_MB, max(USUAL_MB, -(-needed // STEP_MB) * STEP_MB))
