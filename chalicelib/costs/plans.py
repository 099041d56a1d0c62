"""Describe what a run pays for: which jobs, on which machines, with how much data, and how long each may take. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any

from chalicelib.costs.allowances import fit_trials
from chalicelib.recipes.resolving import Recipe
from chalicelib.runs.identity import Run
from chalicelib.settings import Settings

CUT = 0.15  # the share of the training images that goes into each missing split
RETRIES = 2  # per job, as in its request; the job's time limit covers all attempts together
TERM_SECONDS = 120  # between SageMaker's SIGTERM and its SIGKILL
NOTICE_SECONDS = 60  # until SageMaker notices that a limit has passed
SPOT_WAIT_SECONDS = 3600  # that a job may wait for spot capacity, on top of its running time
SLOWEST_START = 300  # seconds to start a job, without its data: instance, image, volume
SLOWEST_BYTES = 20e6  # a second, from or to S3
BOUND_ON_ARCHIVE = 4e9  # bytes of a model archive with its checkpoints; the largest network's has 2.6e9


@dataclass(frozen=True)
class Limits:
    """The seconds that a run's requests allow: for each trial, for the final training, and for the whole tuning job.

    `wait` is how long a spot job may wait for a machine: MaxWaitTimeInSeconds is the job's limit plus this.
    """

    trial: int
    training: int
    tuning: int
    wait: int = SPOT_WAIT_SECONDS


@dataclass(frozen=True)
class Images:
    """The number of images in each split. A missing split is cut from the training images."""

    train: int
    valid: int
    test: int

    @property
    def total(self) -> int:
        return self.train + self.valid + self.test


@dataclass(frozen=True)
class Plan:
    """Everything about a run that its cost depends on. Instance types are in order of preference."""

    recipe: Recipe
    trial_types: tuple[str, ...]
    training_types: tuple[str, ...]
    endpoint_types: tuple[str, ...]
    spot: bool
    volume_gb: int
    zip_bytes: int
    images: Images

    @property
    def limits(self) -> Limits:
        """Return the limits that the recipe asks for."""
        asked = self.recipe.max_runtime_seconds
        return Limits(asked.trial, asked.training, asked.tuning)


def make_plan(recipe: Recipe, settings: Settings, zip_bytes: int, dataset: Mapping[str, Any]) -> Plan:
    """Build the plan of a run with this recipe; `dataset` is the dataset's report."""
    return Plan(
        recipe=replace(recipe, parallel_trials=fit_trials(recipe, settings)),
        trial_types=recipe.instance_types.trial or settings.trial_instance_types,
        training_types=recipe.instance_types.training or settings.training_instance_types,
        endpoint_types=recipe.instance_types.endpoint or settings.endpoint_instance_types,
        spot=settings.use_spot and recipe.spot,
        volume_gb=settings.volume_gb,
        zip_bytes=zip_bytes,
        images=count_images(dataset),
    )


def count_images(dataset: Mapping[str, Any]) -> Images:
    """Count the images of each split, approximately as the training program will cut a missing one."""
    counts = {split: sum(classes.values()) for split, classes in dataset.get("splits", {}).items()}
    train = counts.get("train", 0)
    cut = {split: counts.get(split) or round(train * CUT) for split in ("valid", "test")}
    rest = train - sum(cut[split] for split in cut if not counts.get(split))
    return Images(train=rest, **cut)


def read_limits(run: Run, recipe: Recipe) -> Limits:
    """Return the limits that the run pinned with its cost, or the recipe's if it has pinned none."""
    pinned = (run.cost or {}).get("limits")
    asked = recipe.max_runtime_seconds
    return Limits(**pinned) if pinned else Limits(asked.trial, asked.training, asked.tuning)


def write_limits(limits: Limits) -> dict[str, int]:
    return asdict(limits)


def bound_job(plan: Plan, limit: int, wait: int) -> int:
    """Return the most seconds that a job with this limit can be billed for.

    The limit covers all attempts together (SageMaker's RetryStrategy says so), but each attempt may first download its
    image and its data. A spot job that is interrupted again and again goes on until its MaxWaitTime has passed. At the
    limit come SIGTERM's two minutes and the upload of the results.
    """
    running = limit + (wait if plan.spot else 0)
    return running + (1 + RETRIES) * bound_start(plan) + bound_end()


def bound_start(plan: Plan) -> int:
    return ceil(SLOWEST_START + plan.zip_bytes / SLOWEST_BYTES)


def bound_end() -> int:
    return ceil(NOTICE_SECONDS + TERM_SECONDS + BOUND_ON_ARCHIVE / SLOWEST_BYTES)


def bound_trials(plan: Plan, limits: Limits) -> int:
    """Return the most seconds that all trials together can be billed for, by their own limit or the tuning job's.

    The tuning job's limit stops whatever runs, so each machine that runs in parallel is billed for at most that long.
    """
    by_trial = plan.recipe.trials * bound_job(plan, limits.trial, limits.wait)
    by_tuning = plan.recipe.parallel_trials * (limits.tuning + bound_start(plan) + bound_end())
    return min(by_trial, by_tuning)
