"""Tell which instance types have a GPU, which our images cannot run on, and which encrypt their own disk. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

MOST = 5  # entries in a list of preference
TYPE = re.compile(r"ml\.([a-z0-9-]+)\.[a-z0-9]+")
GPU = re.compile(r"(g|gr|p)\d")
ARM = re.compile(r"[a-z]+\d+g[a-z]*|.*-gb\d+")
OWN_DISK = re.compile(r"[a-z]+\d+[a-z]*d[a-z]*|(g|gr|i)\d.*|p[4-9].*")  # the last two groups always have one
NEURON = ("inf", "trn")
UNKNOWN_GPUS = {  # too old or too new for the images' CUDA, by the instance's use
    "trial": ("p2", "p3", "p3dn"),
    "training": ("p2", "p3", "p3dn"),
    "endpoint": ("p2", "g7", "g7e", "p6-b200", "p6-b300"),
}


def find_family(instance_type: str) -> str:
    """Return `g4dn` for `ml.g4dn.xlarge`, and an empty text for anything that is not an instance type."""
    found = TYPE.fullmatch(instance_type)
    return found[1] if found else ""


def has_gpu(instance_type: str) -> bool:
    return bool(GPU.match(find_family(instance_type)))


def has_own_disk(instance_type: str) -> bool:
    """Return whether the instance has its own disk, which it encrypts itself: SageMaker refuses a key for it."""
    return bool(OWN_DISK.fullmatch(find_family(instance_type)))


def find_list_problems(use: str, types: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with a list of preference for `trial`, `training` or `endpoint`."""
    if len(types) > MOST:
        yield f"{len(types)} instance types are more than {MOST}: keep the best"
    for each in types:
        if reason := _explain_unfit(use, each):
            yield reason
    with_gpu = [each for each in types if has_gpu(each)]
    if with_gpu and len(with_gpu) < len(types):
        without = next(each for each in types if each not in with_gpu)
        yield f"{with_gpu[0]} has a GPU and {without} has none, and one image cannot serve both: list one kind"


def _explain_unfit(use: str, instance_type: str) -> str | None:
    family = find_family(instance_type)
    if not family:
        return f"{instance_type!r} is no instance type: write one such as 'ml.m5.xlarge'"
    if family.startswith(NEURON):
        return f"{instance_type} has AWS's own accelerator, for which there is no image: take a GPU, such as ml.g5"
    if ARM.fullmatch(family):
        return f"{instance_type} has an ARM processor, for which there is no image: take one such as ml.m5"
    if family in UNKNOWN_GPUS[use]:
        return f"{instance_type} has a GPU that the image's CUDA does not know: take one such as ml.g5"
    return None
