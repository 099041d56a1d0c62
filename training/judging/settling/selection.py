"""Judge head trainings by cross-validation where validation has few images, and choose the head's L2 there."""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from caching.sharing import PATIENCE, obtain
from caching.store import Array, open_store
from images.data import Batches, draw_all
from job.metrics import log
from learning.engine import Metrics
from learning.extraction import name_key, one_thread_each
from learning.preparation import Course, Judge, Setup, extract_split, make_learner, weigh
from torch import nn

from judging.deciding.folds import FEWEST, FOLDS, PENALTIES, choose_penalty, collect, make_folds
from judging.deciding.heads import fit_head
from judging.deciding.imbalance import draw_balanced, make_fitting_criterion
from judging.evaluate import measure, standard_error

Pooled = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # features, labels and folds


def can_fold(setup: Setup) -> bool:
    """Return whether a fitted head can be cross-validated, and validation has too few images to judge alone."""
    data = setup.dataset
    frozen = setup.pretrained == "imagenet" and isinstance(setup.head, nn.Linear)
    return frozen and len(data.valid) < FEWEST and len(set(list_groups(setup))) >= 2 * FOLDS


def list_groups(setup: Setup) -> list[bytes]:
    """Return the group of each image of train and validation, in this order.

    Images of one perceptual key are alike, but for a key that many images of a class have: it is too coarse for such
    images, and only equal files are then a group. Groups of the recipe stay whole.
    """
    splits = (setup.dataset.train, setup.dataset.valid)
    labels = torch.cat([split.labels for split in splits]).tolist()
    keys = [
        (group, digest.encode()) for split in splits for group, digest in zip(split.groups, split.hashes, strict=True)
    ]
    held, own = Counter(group for group, _ in keys), Counter(labels)
    return [
        group if group.startswith(b"group ") or held[group] <= max(2, own[label] // FOLDS) else digest
        for (group, digest), label in zip(keys, labels, strict=True)
    ]


def pool(setup: Setup) -> Pooled:
    """Return features and labels of train and validation together, and their folds."""
    splits = (setup.dataset.train, setup.dataset.valid)
    labels = torch.cat([split.labels for split in splits])
    places = make_folds(list_groups(setup), labels.tolist())
    return torch.cat([extract_split(setup, split) for split in splits]), labels, places


def settle_penalty(setup: Setup) -> Setup:
    """Return the setup with the L2 that judges best in cross-validation, and its losses among the choices."""
    if not can_fold(setup):
        return setup
    pooled, criterion = pool(setup), make_fitting_criterion(*weigh(setup))

    def choose() -> Array:
        found = choose_penalty(*pooled, criterion, seed=setup.chosen.seed)
        return np.array([found.taken, found.images, *found.losses.values()])

    taken, images, *losses = compute_once(setup, "penalty", pooled, choose).tolist()
    log(f"the head's L2 is {taken:g}, by {FOLDS}-fold cross-validation on {images:.0f} images")
    told = {f"{penalty:g}": loss for penalty, loss in zip(sorted(PENALTIES, reverse=True), losses, strict=True)}
    choice = {"taken": taken, "losses": told, "folds": FOLDS, "images": int(images)}
    return replace(setup, penalty=taken, choices={**setup.choices, "head_penalty": choice})


def compute_once(setup: Setup, what: str, pooled: Pooled, compute: Callable[[], Array]) -> Array:
    """Compute what depends on the pooled features alone, once for all jobs of this machine, with the same bits."""
    with one_thread_each():
        return remember(setup, what, pooled, compute)


def remember(setup: Setup, what: str, data: Sequence[torch.Tensor], compute: Callable[[], Array]) -> Array:
    """Return what is computed from some tensors, read where another job of this machine has computed it."""
    whole = hashlib.sha256(b"".join(each.contiguous().numpy().tobytes() for each in data)).hexdigest()
    about = {"what": what, "pooled": whole, "imbalance": weigh(setup)[0], "penalty": setup.penalty}
    key = name_key({**about, "seed": setup.chosen.seed, "torch": torch.__version__})
    found = obtain(open_store(setup.job.feature_cache), key, compute, PATIENCE)
    return compute() if found is None else found


def fit_once(setup: Setup) -> float:
    """Fit the head on the features of the training images, once for all jobs of this machine. Return its loss.

    Its bits depend on the device and the number of threads, as those of a training do.
    """
    train, head = setup.dataset.train, setup.head
    features, criterion = extract_split(setup, train), make_fitting_criterion(*weigh(setup))

    def fit() -> Array:
        loss = fit_head(head, features, train.labels, penalty=setup.penalty, criterion=criterion)
        values: Array = (
            torch.cat([head.weight.flatten(), head.bias, head.bias.new_tensor([loss])]).detach().cpu().numpy()
        )
        return values

    how = f"head, {setup.device.type}, {torch.get_num_threads()} threads"
    values = torch.tensor(remember(setup, how, (features, train.labels), fit))
    sizes = [head.weight.numel(), head.bias.numel(), 1]
    weight, bias, loss = values.split(sizes)
    head.load_state_dict({"weight": weight.view_as(head.weight), "bias": bias})
    return float(loss)


def judge_by_folds(setup: Setup, course: Course) -> Course:
    """Return the course with a judge that cross-validates, if it trains a head alone."""
    if not (can_fold(setup) and course.learner.network is setup.head):
        return course
    log(f"the head is judged by {FOLDS}-fold cross-validation: {len(setup.dataset.valid)} validation images are few")
    return replace(course, judge=FoldJudge(setup, course.judge.answer))


class FoldJudge(Judge):
    """Train a head for each fold beside the one that ships, epoch by epoch, and judge all of them out of fold."""

    def __init__(self, setup: Setup, answer: Callable[[str], torch.Tensor]) -> None:
        super().__init__(setup, answer)
        self.setup = setup
        self.features, self.pooled, self.places = pool(setup)
        fitted = torch.tensor(compute_once(setup, "heads", (self.features, self.pooled, self.places), self.fit_all))
        self.folds = [Fold(self, fold, values) for fold, values in enumerate(fitted)]
        self.epoch = self.following = 0
        self.best: Metrics = {}
        self.best_alone = 0.0

    def fit_all(self) -> Array:
        """Fit a head for each fold as the one that ships: weights and biases (folds, classes, features + 1)."""
        heads = []
        for fold in range(FOLDS):
            rest, head = self.places != fold, copy.deepcopy(self.setup.head)
            criterion = make_fitting_criterion(*weigh(self.setup))
            fit_head(head, self.features[rest], self.pooled[rest], penalty=self.setup.penalty, criterion=criterion)
            heads.append(torch.cat([head.weight, head.bias[:, None]], dim=1).detach().cpu())
        values: Array = torch.stack(heads).numpy()
        return values

    def validate(self) -> Metrics:
        """Measure the folds' answers: first as they were fitted, then after each epoch, for which they are trained.

        The split's own logits are kept too.
        """
        begun = self.clock()
        self.catch_up(self.following)
        self.logits = self.answer("valid")
        logits = collect(self.places, self.logits.shape[1], self.answer_fold, self.features)
        measured = measure(logits, self.pooled)
        measured["standard_error"] = standard_error(logits, self.pooled, self.objective)
        self.remember(measured)
        self.seconds = self.clock() - begun
        return measured

    def remember(self, measured: Metrics) -> None:
        if not self.best or measured[self.objective] > self.best[self.objective]:
            self.best, self.best_alone = measured, measure(self.logits, self.labels)[self.objective]

    def answer_fold(self, fold: int) -> nn.Module:
        return self.folds[fold].learner.network

    def catch_up(self, epoch: int) -> None:
        while self.epoch < epoch:
            self.epoch += 1
            for fold in self.folds:
                fold.run(self.epoch)
        self.following = epoch + 1

    def describe_selection(self) -> dict[str, Any] | None:
        if not self.best:
            return None
        value = self.best[self.objective]
        return {
            "by": "cross_validation",
            "folds": FOLDS,
            "images": len(self.pooled),
            "value": value,
            "standard_error": self.best["standard_error"],
            "validation": self.best_alone,
        }


class Fold:
    """A head that is fitted and trained as the one that ships, on all folds but one.

    fitted: its weights and biases (classes, features + 1).
    """

    def __init__(self, judge: FoldJudge, fold: int, fitted: torch.Tensor) -> None:
        setup, rest = judge.setup, judge.places != fold
        own, told = judge.features[rest], judge.pooled[rest]
        head = copy.deepcopy(setup.head)
        head.load_state_dict({"weight": fitted[:, :-1], "bias": fitted[:, -1]})
        order = draw_balanced if setup.chosen.imbalance == "sample" else draw_all
        size, seed = setup.chosen.batch_size, setup.chosen.seed
        self.batches = Batches(
            own.__getitem__,
            told,
            lambda inputs, _: inputs,
            batch_size=size,
            seed=seed,
            device=setup.device,
            order=order,
        )
        self.learner = make_learner(setup, head, self.batches, [])

    def run(self, epoch: int) -> None:
        self.learner.show_average(False)
        self.learner.set_training()
        for inputs, labels in self.batches.of_epoch(epoch):
            self.learner.learn(inputs, labels)
        self.learner.show_average(True)
