"""Keep the best model so far in place, with its manifest and its evaluation, while the training goes on.

A job may be killed at any moment without a signal: AWS's images forward none. So the best model is written whenever
that costs at most SHARE of the time that the job has taken so far, and always at the end. Each file is replaced
atomically, the code that serves the model first and its evaluation last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from job.artifact import write_json, write_manifest, write_model
from job.metrics import describe, log
from judging.evaluate import choose_temperature, describe_test, measure, standard_error
from judging.predictions import describe_predictions
from judging.unknown import describe_unknown
from torch import nn

from learning.engine import Progress, copy_weights, restore_best
from learning.model import measure_size
from learning.preparation import Course, Setup
from learning.records import describe_evaluation, describe_model, pick, tell_selection

SHARE = 0.05
WRITTEN_A_SECOND = 200e6  # bytes; a guess for the first time, then the time is known
TOLD = ("accuracy", "macro_precision", "macro_recall", "macro_f1")


@dataclass(frozen=True)
class Judged:
    """The logits of an epoch's weights on valid and test."""

    epoch: int
    valid: torch.Tensor
    test: torch.Tensor


@dataclass(frozen=True)
class Refitted:
    """How a model was trained again on training and validation images together: its epochs, and how many images."""

    epochs: int
    images: int


@dataclass(frozen=True)
class Shipped:
    """Which model ships: final, head, blend or trial; of which job; and the fine-tuned share of a blend."""

    candidate: str
    job: str
    alpha: float | None = None
    refitted: Refitted | None = None

    def describe(self) -> dict[str, Any]:
        """Build what manifest and evaluation say of it."""
        told = asdict(self)
        refitted = told.pop("refitted")
        return {"shipped": told, **({"refitted": refitted} if refitted else {})}


class Shipper:
    """Ships the best epoch so far. begun: when the program started, by `clock`."""

    def __init__(self, setup: Setup, course: Course, begun: float, *, clock: Callable[[], float] = time.time) -> None:
        self.setup, self.course, self.begun, self.clock = setup, course, begun, clock
        self.size = measure_size(setup.network)
        self.judged: Judged | None = None
        self.validated: tuple[int, torch.Tensor] | None = None
        self.spent = 0.0
        self.cost: float | None = None
        self.finished = False

    def offer(self, progress: Progress) -> None:
        """Ship the best epoch after a validation, unless it is in place or would take too much of the time."""
        if progress.best_epoch == progress.epoch and self.course.judge.logits is not None:
            self.validated = progress.epoch, self.course.judge.logits
        if self.is_in_place(progress) or self.spent + self.expect() > SHARE * (self.clock() - self.begun):
            return
        begun = self.clock()
        known = f"the best model after {progress.epoch} of {self.setup.chosen.epochs} epochs"
        self.write(progress, finished=False, warnings=[f"the training was stopped before its end: this is {known}"])
        self.cost = self.clock() - begun
        self.spent += self.cost

    def finish(self, progress: Progress, *, finished: bool) -> None:
        """Ship the best epoch of a training that has ended, and report its test metrics."""
        judged, test = self.write(progress, finished=finished)
        self.finished = finished
        self.report(judged, test)

    def exchange(self, setup: Setup, judged: Judged, shipped: Shipped, epochs: int | None = None) -> None:
        """Ship another model than the best epoch's, after `finish`: the network and the settings of `setup`.

        epochs: how many it was trained for, if that is known. What selected the best epoch is told of that one alone.
        """
        places = self.setup.job.places
        manifest, evaluation = self.describe(setup, judged, shipped, finished=self.finished)
        manifest["epoch"] = epochs
        if self.judged and judged.valid is self.judged.valid:
            evaluation |= tell_selection(evaluation["objective"], self.course.judge.describe_selection())
        write_model(places.model, setup.network, manifest, places.code)
        write_json(places.checkpoints / "evaluation.json", evaluation)
        self.report(judged, evaluation["test"])

    def report(self, judged: Judged, test: dict[str, Any]) -> None:
        """Log the test metrics of what ships; of the final training write single predictions too."""
        if self.setup.chosen.profile:
            logits = {"valid": judged.valid, "test": judged.test}
            shown = describe_predictions(self.setup.dataset, logits, test["calibration"]["temperature"])
            write_json(self.setup.job.places.checkpoints / "predictions.json", shown)
        log(" ".join(describe("test", pick(test, TOLD))))

    def estimate_closing(self, progress: Progress) -> float:
        """Estimate the seconds of one more validation and of `finish`, generously.

        Before the first validation the estimate comes from the training's steps, which take longer for an image.
        """
        data, totals, known = self.setup.dataset, progress.totals, self.course.judge.seconds
        an_image = 0.0 if known else totals.seconds / max(1, totals.images) * self.setup.job.ranks
        return 2 * (known + self.expect() + an_image * (len(data.valid) + len(data.test)))

    def expect(self) -> float:
        """Return what shipping cost the last time, or an estimate from the last validation."""
        if self.cost is not None:
            return self.cost
        ratio = len(self.setup.dataset.test) / max(1, len(self.setup.dataset.valid))
        return self.course.judge.seconds * ratio + self.size / WRITTEN_A_SECOND

    def is_in_place(self, progress: Progress) -> bool:
        return self.judged is not None and self.judged.epoch == progress.best_epoch

    def write(
        self, progress: Progress, *, finished: bool, warnings: list[str] | None = None
    ) -> tuple[Judged, dict[str, Any]]:
        """Write the model, unless it is in place, and what describes it. Return its logits and its test metrics."""
        places, kept = self.setup.job.places, self.judged if self.is_in_place(progress) else None
        setup = replace(self.setup, warnings=[*self.setup.warnings, *(warnings or [])])
        shipped = Shipped("final" if progress.best_epoch else "head", setup.job.name)
        with best_weights(self.course.learner.network, progress):
            judged = kept or self.judge(progress.best_epoch)
            manifest, evaluation = self.describe(setup, judged, shipped, finished=finished)
            evaluation |= tell_selection(evaluation["objective"], self.course.judge.describe_selection())
            manifest["epoch"] = progress.best_epoch
            if kept:
                write_manifest(places.model, manifest)
            else:
                write_model(places.model, setup.network, manifest, places.code)
        write_json(places.checkpoints / "evaluation.json", evaluation)
        self.judged = judged
        return judged, evaluation["test"]

    def judge(self, epoch: int) -> Judged:
        """Judge the weights of `epoch`, which the network holds; its validation is repeated only if it is not known."""
        judge = self.course.judge
        known = self.validated[1] if self.validated and self.validated[0] == epoch else judge.answer("valid")
        return Judged(epoch, known, judge.answer("test"))

    def describe(
        self, setup: Setup, judged: Judged, shipped: Shipped, *, finished: bool
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Build the manifest and the evaluation of judged weights."""
        data = setup.dataset
        valid = measure(judged.valid, data.valid.labels)
        error = standard_error(judged.valid, data.valid.labels, setup.chosen.objective)
        temperature = choose_temperature(judged.valid, data.valid.labels)
        test = describe_test(judged.test, data.test.labels, data.classes, temperature)
        seconds = self.clock() - self.begun
        evaluation = describe_evaluation(setup, valid, error, test, finished=finished, seconds=seconds)
        rule, told = {"unknown": describe_unknown(judged.valid)}, shipped.describe()
        if shipped.refitted:
            rule["training_image_hashes"] = data.train.hashes + data.valid.hashes
        return {**describe_model(setup, valid, test), **rule, **told}, {**evaluation, **told}


@contextmanager
def best_weights(network: nn.Module, progress: Progress) -> Iterator[None]:
    """Give a network the weights of its best epoch for a while."""
    if progress.best_weights is None:
        yield
        return
    newest = copy_weights(network)
    restore_best(network, progress)
    try:
        yield
    finally:
        network.load_state_dict(newest)
