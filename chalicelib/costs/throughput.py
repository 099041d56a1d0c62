"""Model how long a run's jobs take before anything is measured, from published constants. Pure.

The model counts: the start, the download, decoding each image once, the features of the frozen backbone, the epochs,
and the final evaluation. A head alone trains and is judged on the features that its job keeps, so its epochs cost no
further pass; features are not kept from one machine to the next. The constants are in `throughput.json`; docs/costs.md
says where they come from and how far they can be trusted. Once trials are measured, `estimates.refine` uses their times
instead.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from chalicelib.costs.plans import Plan
from chalicelib.recipes.instances import count_processes
from chalicelib.recipes.resolving import Recipe

START_SECONDS = 75.0  # billed before the training program starts: image, volume, toolkit, imports
BYTES_A_SECOND = 60e6  # from S3 to the volume
DECODED_A_SECOND = 150.0  # images that one vCPU decodes and resizes in a second
DECODED_BYTES = 15e6  # bytes of large images that one vCPU decodes in a second
IMAGE_SECONDS = {"gpu": 1 / 3000, "cpu": 1 / 400}  # the cost of an image apart from its multiplications
TOGETHER = 0.8  # share of the ideal gain where several GPUs or machines share out the epochs of the final training
BACKWARD = {"head": 0.0, "last_block": 1.5, "all": 3.0}  # an image's cost in an epoch, in forward passes
SHORTER = {"Hyperband": 0.4, "Auto": 0.8, "patience": 0.8}  # share of epochs run if something may end them early
PROFILED = 1.25  # slowdown of the final training's epochs by hooks and samplers
PROFILED_SECONDS = 120.0  # installing packages, drawing the report
UPLOAD_SECONDS = 10.0


@cache
def read_throughput() -> dict[str, Any]:
    """Return the constants as they are shipped."""
    return dict(json.loads(Path(__file__).with_name("throughput.json").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Time:
    """A job's seconds: those that are the same on every machine, and those that depend on its speed."""

    fixed: float
    work: float

    @property
    def seconds(self) -> float:
        return self.fixed + self.work


def model_trial(plan: Plan, instance_type: str) -> Time:
    """Return the seconds that one trial is billed for, averaged over the depths that the tuning job tries."""
    return _model_job(plan, instance_type, _shorten(plan.recipe), 0.0)


def model_training(plan: Plan, instance_type: str) -> Time:
    """Return the seconds that the final training is billed for: every epoch, averaged over the depths, and a baseline.

    The baseline has as many epochs, without hooks, at the greatest depth that the recipe allows. Several processes
    share out the epochs; one alone measures the baseline.
    """
    share = SHORTER["patience"] if plan.recipe.patience else 1.0
    processes = count_processes(instance_type, plan.recipe.instance_count)
    gain = 1.0 if processes == 1 else TOGETHER * processes
    own = _model_job(plan, instance_type, PROFILED * share, PROFILED_SECONDS, gain)
    depth = BACKWARD[plan.recipe.deepest]
    images, epochs = plan.images, max(1.0, plan.recipe.epochs * share)
    passes = images.train + images.test + epochs * _count_passes(plan, depth)
    if plan.recipe.refit:  # by one process, without hooks and validations
        passes += epochs * (images.train + images.valid) * fmean(_list_depths(plan.recipe))
    return replace(own, work=own.work + passes * _model_pass(plan.recipe, instance_type))


def _shorten(recipe: Recipe) -> float:
    share = SHORTER["Hyperband"] if recipe.strategy == "Hyperband" else 1.0
    share *= SHORTER["Auto"] if recipe.early_stopping == "Auto" else 1.0
    return share * (SHORTER["patience"] if recipe.patience else 1.0)


def _model_job(plan: Plan, instance_type: str, epochs_share: float, more: float, gain: float = 1.0) -> Time:
    images, epochs = plan.images, max(1.0, plan.recipe.epochs * epochs_share) / gain
    depths = _list_depths(plan.recipe)
    passes = images.total + epochs * sum(_count_passes(plan, depth) for depth in depths) / len(depths)
    work = _model_decoding(plan, instance_type) + passes * _model_pass(plan.recipe, instance_type)
    return Time(START_SECONDS + plan.zip_bytes / BYTES_A_SECOND + UPLOAD_SECONDS + more, work)


def _list_depths(recipe: Recipe) -> list[float]:
    return [BACKWARD[str(each)] for each in recipe.ranges.fine_tune.values]


def _count_passes(plan: Plan, depth: float) -> float:
    """Return what an epoch costs at a depth, in forward passes of an image; a head's features are there already."""
    return plan.images.train * depth + plan.images.valid if depth else 0.0


def _model_pass(recipe: Recipe, instance_type: str) -> float:
    """Return the seconds of one image's forward pass through the network."""
    known = read_throughput()
    billions, size, _ = known["architectures"][recipe.architecture]
    work = billions * (recipe.image_size / size) ** 2
    family = instance_type.split(".")[1]
    rate = known["devices"].get(family) or known["vcpu"] * count_vcpus(instance_type)
    kind = "gpu" if family in known["devices"] else "cpu"
    return float(work / rate) + IMAGE_SECONDS[kind] / 3


def _model_decoding(plan: Plan, instance_type: str) -> float:
    by_count, by_bytes = plan.images.total / DECODED_A_SECOND, plan.zip_bytes / DECODED_BYTES
    return max(by_count, by_bytes) / count_vcpus(instance_type)


def count_vcpus(instance_type: str) -> int:
    """Return an instance type's number of virtual processors, from its size; 4 if the size is unknown."""
    return int(read_throughput()["vcpus"].get(instance_type.rpartition(".")[2], 4))
