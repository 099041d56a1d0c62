"""Decide which image runs on which instance family, by processor, and by GPU architecture and CUDA version.

Every GPU family has a compute capability. CUDA 13 dropped everything below 7.5 (NVIDIA's release notes: Maxwell,
Pascal, Volta). The Blackwell families need CUDA 12.8.
"""

from __future__ import annotations

import re

# Compute capability by family: https://developer.nvidia.com/cuda-gpus
CAPABILITIES: dict[str, tuple[int, int]] = {
    "p2": (3, 7),  # K80
    "p3": (7, 0),  # V100
    "p3dn": (7, 0),
    "g4dn": (7, 5),  # T4
    "p4d": (8, 0),  # A100
    "p4de": (8, 0),
    "g5": (8, 6),  # A10G
    "g6": (8, 9),  # L4
    "gr6": (8, 9),
    "g6e": (8, 9),  # L40S
    "p5": (9, 0),  # H100
    "p5e": (9, 0),  # H200
    "p5en": (9, 0),
    "p6-b200": (10, 0),
    "p6-b300": (10, 3),
    "g7": (12, 0),  # RTX PRO 4500
    "g7e": (12, 0),  # RTX PRO 6000
}
# From which CUDA version on which capability is the lowest supported, and which version introduced Blackwell.
DROPPED = {(13, 0): (7, 5), (12, 0): (5, 0)}
BLACKWELL, BLACKWELL_CUDA = (10, 0), (12, 8)
NEURON = re.compile(r"(trn|inf)\d")
GRAVITON = re.compile(r"([a-z]+)\d+g[a-z]*$")


def read_family(instance_type: str) -> str:
    """Return an instance type's family: that of `ml.g4dn.xlarge` is `g4dn`."""
    return instance_type.removeprefix("ml.").rpartition(".")[0]


def check_pair(cpu_image: str, gpu_image: str, cuda: str, instance_type: str) -> list[str]:
    """Explain why this type cannot run the image for its kind; empty if it can.

    `cuda` is the version in the GPU image. Empty means unknown, and then it is not checked.
    """
    family = read_family(instance_type)
    if NEURON.match(family):
        return [f"{instance_type} has AWS's Neuron chips, and {gpu_image} is made for NVIDIA's. Choose a g or p type."]
    if family in CAPABILITIES:
        return _check_gpu(gpu_image, cuda, instance_type, CAPABILITIES[family])
    if re.match(r"(p|g|gr)\d", family):
        return [
            f"{instance_type}: the GPU of family {family} is not known to infrastructure/account/instance_families.py."
        ]
    if GRAVITON.match(family):
        return [
            f"{instance_type} has an Arm processor, and {cpu_image} is made for x86. Choose another family: m5, c6i."
        ]
    return []


def _check_gpu(image: str, cuda: str, instance_type: str, capability: tuple[int, int]) -> list[str]:
    if re.search(r"[:-]cpu(-|$)", image):
        return [f"{instance_type} has a GPU, and {image} would leave it idle. Choose an image for GPUs."]
    version = _read_version(cuda)
    if version is None:
        return []
    least = max((floor for since, floor in DROPPED.items() if version >= since), default=(0, 0))
    if capability < least:
        return [
            f"{instance_type} has a GPU of compute capability {_write(capability)}, and CUDA {cuda} in {image} "
            f"needs {_write(least)} or more. Choose a newer family (g4dn, g5), or an older image."
        ]
    if capability >= BLACKWELL and version < BLACKWELL_CUDA:
        return [
            f"{instance_type} has a GPU of compute capability {_write(capability)}, which CUDA {cuda} in {image} does "
            f"not know: {_write(BLACKWELL_CUDA)} is the first. Choose another family (g5, g6), or a newer image."
        ]
    return []


def _read_version(cuda: str) -> tuple[int, int] | None:
    major, _, minor = cuda.partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None


def _write(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
