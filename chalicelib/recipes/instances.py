"""Tell which instance types have a GPU, which our images cannot run on, and which encrypt their own disk. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

MOST = 5  # entries in a list of preference
TYPE = re.compile(r"ml\.([a-z0-9-]+)\.[a-z0-9]+")
GPU = re.compile(r"(g|gr|p)\d")
ARM = re.compile(r"[a-z]+\d+g[a-z]*|.*-gb\d+")
OWN_DISK = re.compile(r"[a-z]+\d+[a-z]*d[a-z]*|(g|gr|i)\d.*|p[4-9].*")  # the last two groups always have one
# GiB for each virtual processor, by the first letters of a family; of the burstable sizes, by the whole type.
# https://aws.amazon.com/ec2/instance-types/
GIB_PER_PROCESSOR = {"c": 2.0, "m": 4.0, "r": 8.0, "g": 4.0, "gr": 8.0, "g6e": 8.0, "p": 7.5, "t": 4.0}
SMALLEST_GIB = 2.0  # for each virtual processor of a type that is not in the table
# GPUs of a type, by its size; of the families below, by theirs; any other type has one. A p4 or p5 comes whole, but for
# p5.4xlarge. https://aws.amazon.com/ec2/instance-types/#Accelerated_Computing
GPUS = {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}
GPUS_OF_FAMILY = {
    "g4dn": {"12xlarge": 4, "metal": 8},
    "g7e": {"12xlarge": 2, "24xlarge": 4, "48xlarge": 8},
    "p4d": {"24xlarge": 8},
    "p4de": {"24xlarge": 8},
}
PROCESSORS = {"medium": 1, "large": 2, "xlarge": 4, "metal": 96}
BURSTABLE = {"medium": 4.0, "large": 8.0}  # GiB of t2 and t3, which have two processors
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


def count_gpus(instance_type: str) -> int:
    family, size = find_family(instance_type), instance_type.rpartition(".")[2]
    return GPUS_OF_FAMILY.get(family, GPUS).get(size, 1) if has_gpu(instance_type) else 0


def count_processes(instance_type: str, instances: int) -> int:
    """Return how many processes SageMaker's launcher starts for a job: one a GPU, or one a machine without any."""
    return instances * max(1, count_gpus(instance_type))


def count_processors(instance_type: str) -> int:
    """Return an instance type's number of virtual processors, by its size; 1 if the size is unknown."""
    size = instance_type.rpartition(".")[2]
    if find_family(instance_type).startswith("t") and size in BURSTABLE:
        return 2
    times = re.fullmatch(r"(\d+)xlarge", size)
    return 4 * int(times[1]) if times else PROCESSORS.get(size, 1)


def read_memory(instance_type: str) -> int:
    """Return an instance type's memory in megabytes, or less if the family is unknown."""
    family, size = find_family(instance_type), instance_type.rpartition(".")[2]
    if family.startswith("t") and size in BURSTABLE:
        return int(BURSTABLE[size] * 1024)
    letters = re.match(r"[a-z]+", family)
    known = GIB_PER_PROCESSOR.get(family) or GIB_PER_PROCESSOR.get(letters[0] if letters else "", SMALLEST_GIB)
    return int(known * count_processors(instance_type) * 1024)


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
        return f"{instance_type!r} is not an instance type: write one such as 'ml.m5.xlarge'"
    if family.startswith(NEURON):
        return f"{instance_type} has AWS's own accelerator, for which there is no image: take a GPU, such as ml.g5"
    if ARM.fullmatch(family):
        return f"{instance_type} has an ARM processor, for which there is no image: take one such as ml.m5"
    if family in UNKNOWN_GPUS[use]:
        return f"{instance_type} has a GPU that the image's CUDA does not know: take one such as ml.g5"
    return None
