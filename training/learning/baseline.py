"""Measure the baseline: the same network trained with default hyperparameters, for the same epochs on the same data.

A user sees from it what tuning was worth. It begins as the tuned network did: from the same weights, if there are any,
with a head fitted on their features. The tuned network is not touched. A training that has the default hyperparameters
is its own baseline, and nothing is trained again.

The network as it was before its first step also says what features know that have not seen the labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from images.assembly import Split
from job.artifact import write_json
from job.metrics import log
from job.settings import Hyperparameters
from judging.deciding.imbalance import choose_imbalance, count_classes, make_fitting_criterion
from judging.evaluate import describe_test
from judging.foreign import Probe
from torch import nn

from learning.engine import Progress, Stopped, copy_weights, fit, plain, restore_best
from learning.features import extract, fit_head
from learning.model import find_head
from learning.preparation import Setup, choose_depth, extract_split, inputs_of, make_course, make_network, weigh
from learning.weights import find_weights

SHOWN = ("loss", "accuracy", "macro_precision", "macro_recall", "macro_f1")
# What the recipe decides, and no tuning does.
KEPT = (
    "run_id", "architecture", "image_size", "epochs", "seed", "objective", "patience", "pretrained", "batch_norm",
    "horizontal_flip", "rotation", "augmentation", "clip_norm", "head_rate", "averaging", "mixup", "cutmix", "cache",
)  # fmt: skip
# What says nothing about how a network learns.
ASIDE: dict[str, Any] = {
    "profile": False, "stop_on_rules": (), "refit": False, "max_runtime": 0, "baseline_depth": "all",
    "trial_job": "", "live_run": "",
}  # fmt: skip
Answer = Callable[[str], torch.Tensor]


def measure_baseline(
    setup: Setup,
    job_folder: Path,
    answer: Answer,
    before: Answer | None = None,
    *,
    stop_asked: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Train and evaluate the baseline and write baseline.json. Return its content, or None if it was stopped.

    answer: gives the shipped network's logits on a split. before: the same before it was refitted, if it was: a
    baseline is not refitted.
    """
    begun = time.monotonic()
    defaults = plan_defaults(setup)
    same = is_same(setup.chosen, defaults)
    try:
        own = (before or answer) if same else train_defaults(setup, defaults, stop_asked)
    except Stopped as stopped:
        because = f", because {stopped}" if str(stopped) else ""
        log(f"there is no baseline: its training was stopped before its end{because}")
        return None
    splits = {"valid": setup.dataset.valid, "test": setup.dataset.test}
    measured = {name: sum_up(own(name), split.labels, setup.dataset.classes) for name, split in splits.items()}
    content = {
        "format": 1,
        "kind": "default_hyperparameters",
        "same": same,
        "epochs": defaults.epochs,
        "fine_tune": defaults.fine_tune,
        **measured,
        **compare(answer("test"), own("test"), splits["test"].labels),
        "seconds": round(time.monotonic() - begun, 3),
    }
    write_json(job_folder / "baseline.json", content)
    return content


def choose_defaults(chosen: Hyperparameters) -> Hyperparameters:
    """Return the default hyperparameters, with what the recipe decides as it is."""
    kept = {name: getattr(chosen, name) for name in KEPT}
    depth = "all" if chosen.pretrained == "none" else chosen.baseline_depth
    return Hyperparameters(**kept, fine_tune=depth)


def plan_defaults(setup: Setup) -> Hyperparameters:
    """Return the default hyperparameters of a training; what weights and counts decide is decided as for it."""
    defaults, data = choose_depth(choose_defaults(setup.chosen), setup.pretrained), setup.dataset
    return replace(defaults, imbalance=choose_imbalance("auto", count_classes(data.train.labels, len(data.classes))))


def is_same(chosen: Hyperparameters, defaults: Hyperparameters) -> bool:
    """Return whether a training learns by the default hyperparameters; what only reads the dataset is no matter."""
    reading = {name: getattr(defaults, name) for name in ("class_level", "name_encoding", "ignore", "group", "labels")}
    return replace(chosen, **ASIDE, **reading) == replace(defaults, **ASIDE)


def compare(shipped: torch.Tensor, baseline: torch.Tensor, labels: torch.Tensor) -> dict[str, int]:
    """Count the images that only one of two networks classifies correctly: `better` the shipped one, `worse` not."""
    one, other = (logits.argmax(1) == labels for logits in (shipped, baseline))
    return {"better": int((one & ~other).sum()), "worse": int((other & ~one).sum())}


def sum_up(logits: torch.Tensor, labels: torch.Tensor, classes: list[str]) -> dict[str, float]:
    account = describe_test(logits, labels, classes, temperature=1.0)
    return {name: account[name] for name in SHOWN}


def train_defaults(setup: Setup, defaults: Hyperparameters, stop_asked: Callable[[], bool]) -> Answer:
    """Train another network with default hyperparameters. Return what gives its logits."""
    own = make_default_setup(setup, defaults)
    fitted = fit_own_head(own)
    course, progress = make_course(own), Progress()
    if fitted:
        progress.head, progress.best = copy_weights(own.head), course.validate()
    progress = fit(
        course.learner,
        course.batches,
        course.validate,
        epochs=defaults.epochs,
        patience=defaults.patience,
        objective=defaults.objective,
        seed=defaults.seed,
        progress=progress,
        save=lambda _: None,
        report=lambda _: None,
        stop_asked=stop_asked,
    )
    restore_best(course.learner.network, progress)
    return course.judge.answer


def fit_own_head(setup: Setup) -> bool:
    """Fit the head as a training does before its first step, if the backbone is pretrained. Return whether it did."""
    if setup.pretrained != "imagenet" or not isinstance(setup.head, nn.Linear):
        return False
    train, criterion = setup.dataset.train, make_fitting_criterion(*weigh(setup))
    fit_head(setup.head, extract_split(setup, train), train.labels, penalty=setup.penalty, criterion=criterion)
    return True


def make_default_setup(setup: Setup, defaults: Hyperparameters) -> Setup:
    """Combine the same data with a new network, as it was before the first step."""
    wish = "none" if setup.pretrained == "none" else defaults.pretrained
    state = find_weights(defaults.architecture, wish, setup.job.places.weights, log)
    network = make_network(defaults, len(setup.dataset.classes), state)
    network = network.to(setup.device, memory_format=torch.channels_last)
    head = find_head(network, len(setup.dataset.classes))
    pretrained = "none" if state is None else "imagenet"
    return replace(setup, chosen=defaults, network=network, head=head, pretrained=pretrained, features={})


def extract_unseen(setup: Setup, *splits: Split) -> list[torch.Tensor] | None:
    """Return features of splits by weights that never saw their labels; None if there are no such weights."""
    if setup.pretrained != "imagenet" or not isinstance(setup.head, nn.Linear):
        return None
    own = make_default_setup(setup, plan_defaults(setup))
    return [extract_split(own, split) for split in splits]


def make_probe(setup: Setup) -> Probe | None:
    """Return what measures how well unknown classes are told; None for a head that is no linear layer."""
    if not isinstance(setup.head, nn.Linear):
        return None
    data = setup.dataset
    unseen = extract_unseen(setup, data.train, data.valid)
    train, valid = unseen or [extract_trained(setup, split) for split in (data.train, data.valid)]
    return Probe(lambda learnt: fit_and_answer(train, data.train.labels, valid, learnt), unseen is None)


def answer_with(setup: Setup, name: str) -> torch.Tensor:
    """Return the logits of the network as it is now on a split, by its name."""
    network = setup.network.eval()
    with torch.inference_mode():
        inputs = inputs_of(setup, getattr(setup.dataset, name))
        return torch.cat([plain(network(each.to(setup.device))).float().cpu() for each in inputs])


def extract_trained(setup: Setup, split: Split) -> torch.Tensor:
    """Return the features of a split by the network as it is now."""
    return extract(setup.network, setup.head, (inputs.to(setup.device) for inputs in inputs_of(setup, split)))


def fit_and_answer(
    train: torch.Tensor, labels: torch.Tensor, valid: torch.Tensor, learnt: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit a head on the images of some classes, and return its logits on all of train and valid."""
    own = torch.isin(labels, torch.tensor(learnt))
    numbers = torch.full((int(labels.max()) + 1,), -1)
    numbers[list(learnt)] = torch.arange(len(learnt))
    head = nn.Linear(train.shape[1], len(learnt))
    fit_head(head, train[own], numbers[labels[own]])
    with torch.no_grad():
        return head(train), head(valid)
