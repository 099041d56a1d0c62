"""Measure what an untuned training reaches, so that a user can see what tuning was worth.

With ImageNet weights, the baseline is a linear head on frozen features with default settings. Without them, it is a
training with default hyperparameters for a third of the epochs. The tuned network is not touched.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from job.artifact import write_json
from job.settings import Hyperparameters
from judging.evaluate import describe_test
from torch import nn

from learning.engine import Progress, Stopped, fit, restore_best
from learning.features import fit_head
from learning.model import build_network, find_head
from learning.preparation import Setup, extract_split, inputs_of, make_course

SHOWN = ("loss", "accuracy", "macro_precision", "macro_recall", "macro_f1")
KEPT = ("run_id", "architecture", "image_size", "seed", "objective", "pretrained", "horizontal_flip", "cache")


def measure_baseline(
    setup: Setup, job_folder: Path, *, stop_asked: Callable[[], bool] = lambda: False
) -> dict[str, Any] | None:
    """Train and evaluate the baseline and write baseline.json. Return its content, or None if a stop was requested.

    Call this before the first step or after the last. With ImageNet weights it uses the backbone as it was loaded, so
    then only before the first step.
    """
    begun = time.monotonic()
    frozen = setup.pretrained == "imagenet" and isinstance(setup.head, nn.Linear)
    try:
        logits = judge_linear_head(setup) if frozen else judge_defaults(setup, stop_asked)
    except Stopped:
        return None
    splits = {"valid": setup.dataset.valid, "test": setup.dataset.test}
    measured = {name: sum_up(logits[name], split.labels, setup.dataset.classes) for name, split in splits.items()}
    content = {
        "format": 1,
        "kind": "linear_head" if frozen else "default_hyperparameters",
        **measured,
        "seconds": round(time.monotonic() - begun, 3),
    }
    write_json(job_folder / "baseline.json", content)
    return content


def sum_up(logits: torch.Tensor, labels: torch.Tensor, classes: list[str]) -> dict[str, float]:
    account = describe_test(logits, labels, classes, temperature=1.0)
    return {name: account[name] for name in SHOWN}


def judge_linear_head(setup: Setup) -> dict[str, torch.Tensor]:
    """Fit a new head on the backbone's features and return its logits on valid and test."""
    data = setup.dataset
    features = {name: extract_split(setup, getattr(data, name)) for name in ("train", "valid", "test")}
    head = nn.Linear(setup.head.in_features, len(data.classes)).to(setup.device)
    fit_head(head, features["train"], data.train.labels)
    with torch.no_grad():
        return {name: head(features[name].to(setup.device)).float().cpu() for name in ("valid", "test")}


def judge_defaults(setup: Setup, stop_asked: Callable[[], bool]) -> dict[str, torch.Tensor]:
    """Train another network by default settings for a third of the epochs. Return its logits on valid and test."""
    own = make_default_setup(setup)
    course = make_course(own)
    progress = fit(
        course.learner,
        course.batches,
        course.validate,
        epochs=own.chosen.epochs,
        patience=0,
        objective=own.chosen.objective,
        seed=own.chosen.seed,
        progress=Progress(),
        save=lambda _: None,
        report=lambda _: None,
        stop_asked=stop_asked,
    )
    restore_best(course.learner.network, progress)
    return {name: course.learner.judge(inputs_of(own, getattr(own.dataset, name))) for name in ("valid", "test")}


def make_default_setup(setup: Setup) -> Setup:
    """Combine the same data with a new network and default hyperparameters."""
    chosen, classes = setup.chosen, len(setup.dataset.classes)
    kept = {name: getattr(chosen, name) for name in KEPT}
    defaults = Hyperparameters(**kept, epochs=math.ceil(chosen.epochs / 3))
    torch.manual_seed(chosen.seed)
    network = build_network(chosen.architecture, classes)
    network = network.to(setup.device, memory_format=torch.channels_last)
    return replace(setup, chosen=defaults, network=network, head=find_head(network, classes), pretrained="none")
