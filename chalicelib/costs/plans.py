"""What of a run costs money: which jobs, on which machines, with how much data, and how long each may take. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from chalicelib.recipes.resolving import Recipe
from chalicelib.runs.identity import Run
from chalicelib.settings import Settings

CUT = 0.15  # of the training images, into each split that is missing
RETRIES = 2  # of each job, as its request says; its time limit holds for all attempts together
TERM_SECONDS = 120  # between SageMaker's SIGTERM and its SIGKILL
NOTICE_SECONDS = 60  # until SageMaker sees that a limit has passed
SPOT_WAIT_SECONDS = 3600  # that a job waits for spot capacity, beyond the time that it runs
SLOWEST_START = 300  # seconds of a job's start without its data: instance, image, volume
SLOWEST_BYTES = 20e6  # a second, from or to S3
BOUND_ON_ARCHIVE = 4e9  # bytes of a model archive with its checkpoints: the largest network has 2.6


@dataclass(frozen=True)
class Limits:
    """The seconds that a run's requests allow: of each trial, of the last training, of the whole tuning job.

    `wait` is what a spot job may wait for a machine: MaxWaitTimeInSeconds is the job's limit and this together.
    """

    trial: int
    training: int
    tuning: int
    wait: int = SPOT_WAIT_SECONDS


@dataclass(frozen=True)
class Images:
    """How many images each split has. A split that is missing is cut from the training's."""

    train: int
    valid: int
    test: int

    @property
    def total(self) -> int:
        return self.train + self.valid + self.test


@dataclass(frozen=True)
class Plan:
    """A run, as far as it costs money. Instance types are in order of preference."""

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
        """What the recipe asks for."""
        asked = self.recipe.max_runtime_seconds
        return Limits(asked.trial, asked.training, asked.tuning)


def make_plan(recipe: Recipe, settings: Settings, zip_bytes: int, dataset: Mapping[str, Any]) -> Plan:
    """The plan of a run with this recipe on a dataset of which `dataset` is the report."""
    return Plan(
        recipe=recipe,
        trial_types=recipe.instance_types.trial or settings.trial_instance_types,
        training_types=recipe.instance_types.training or settings.training_instance_types,
        endpoint_types=recipe.instance_types.endpoint or settings.endpoint_instance_types,
        spot=settings.use_spot and recipe.spot,
        volume_gb=settings.volume_gb,
        zip_bytes=zip_bytes,
        images=count_images(dataset),
    )


def count_images(dataset: Mapping[str, Any]) -> Images:
    """The images of each split, about as the training program will cut them where one is missing."""
    counts = {split: sum(classes.values()) for split, classes in dataset.get("splits", {}).items()}
    train = counts.get("train", 0)
    cut = {split: counts.get(split) or round(train * CUT) for split in ("valid", "test")}
    rest = train - sum(cut[split] for split in cut if not counts.get(split))
    return Images(train=rest, **cut)


def read_limits(run: Run, recipe: Recipe) -> Limits:
    """The limits that the run pinned with its cost, or the recipe's where it has pinned none."""
    pinned = (run.cost or {}).get("limits")
    asked = recipe.max_runtime_seconds
    return Limits(**pinned) if pinned else Limits(asked.trial, asked.training, asked.tuning)


def write_limits(limits: Limits) -> dict[str, int]:
    return asdict(limits)


def bound_job(plan: Plan, limit: int, wait: int) -> int:
    """The most seconds that a job with this limit can be billed for.

    The limit holds for all attempts together (SageMaker's RetryStrategy says so), but each attempt may first download
    its image and its data. A spot job that is interrupted again and again does so until its MaxWaitTime has passed. At
    the limit come SIGTERM's two minutes, and the upload of what was made.
    """
    running = limit + (wait if plan.spot else 0)
    return running + (1 + RETRIES) * bound_start(plan) + bound_end()


def bound_start(plan: Plan) -> int:
    return ceil(SLOWEST_START + plan.zip_bytes / SLOWEST_BYTES)


def bound_end() -> int:
    return ceil(NOTICE_SECONDS + TERM_SECONDS + BOUND_ON_ARCHIVE / SLOWEST_BYTES)


def bound_trials(plan: Plan, limits: Limits) -> int:
    """The most seconds that all trials together can be billed for: by their own limit, or by the tuning job's.

    The tuning job's limit ends whatever runs: then each machine that runs at a time was billed for that long at most.
    """
    by_trial = plan.recipe.trials * bound_job(plan, limits.trial, limits.wait)
    by_tuning = plan.recipe.parallel_trials * (limits.tuning + bound_start(plan) + bound_end())
    return min(by_trial, by_tuning)
