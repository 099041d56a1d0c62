"""Define the rules on losses and on predictions; rules.py has what they share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from debugger.rules import (
    AllZero,
    DeadRelu,
    ExplodingTensor,
    HealthRule,
    PoorWeightInitialization,
    Readings,
    SaturatedActivation,
    UnchangedTensor,
    VanishingGradient,
    WeightUpdateRatio,
)

LABELS = r"[Ll]oss_input_1$"
PREDICTIONS = r"[Ll]oss_input_0$"
ENOUGH_OF_A_CLASS = 10


class LossNotDecreasing(HealthRule):
    """Trigger when the mean loss of the last num_steps saved steps is not below that of the num_steps before.

    AWS compares two single losses; the losses of two batches differ by chance, so means are compared here.
    """

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "collection_names": None,
        "tensor_regex": None,
        "use_losses_collection": True,
        "num_steps": 10,
        "diff_percent": 0.1,
        "increase_threshold_percent": 5.0,
        "mode": "TRAIN",
    }
    NEEDS = "losses"

    def __init__(self, readings: Readings, **parameters: Any) -> None:
        super().__init__(readings, **parameters)
        self.losses: list[float] = []

    def judge(self, step: int) -> str:
        loss = self.loss(step) if self.is_training(step) else None
        if loss is None:
            return ""
        self.losses.append(loss)
        width = self.parameters["num_steps"]
        if len(self.losses) % width or len(self.losses) < 2 * width:
            return ""
        before, now = (float(np.mean(part)) for part in (self.losses[-2 * width : -width], self.losses[-width:]))
        if now <= before * (1 - self.parameters["diff_percent"] / 100):
            return ""
        risen = not now <= before * (1 + self.parameters["increase_threshold_percent"] / 100)
        return f"the loss {'rose' if risen else 'stood still'}, from {before:.4g} to {now:.4g}"


class Overfit(HealthRule):
    """Trigger when the loss on the validation split exceeds the epoch's training loss by more than the ratio."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "tensor_regex": None,
        "start_step": 0,
        "patience": 1,
        "ratio_threshold": 0.1,
    }
    NEEDS = "losses of validation"

    def __init__(self, readings: Readings, **parameters: Any) -> None:
        super().__init__(readings, **parameters)
        self.train: list[float] = []
        self.exceeded = 0

    def judge(self, step: int) -> str:
        loss = self.loss(step)
        if loss is None or step < self.parameters["start_step"]:
            return ""
        if self.is_training(step):
            self.train.append(loss)
            return ""
        if not self.train:  # an epoch shorter than the interval between saves
            return ""
        mean, self.train = float(np.mean(self.train)), []
        ratio = (loss - mean) / max(abs(mean), 1e-12)
        self.exceeded = self.exceeded + 1 if ratio > self.parameters["ratio_threshold"] else 0
        if self.exceeded < self.parameters["patience"]:
            return ""
        return f"the validation loss {loss:.4g} is {ratio:.0%} above the training loss {mean:.4g}"


class Overtraining(HealthRule):
    """Trigger when neither split's loss improves; a patience counts epochs, each with the mean of its saved losses."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"patience_train": 5, "patience_validation": 10, "delta": 0.01}
    NEEDS = "losses of validation"

    def __init__(self, readings: Readings, **parameters: Any) -> None:
        super().__init__(readings, **parameters)
        self.epoch: list[float] = []
        self.best = {"train": math.inf, "validation": math.inf}
        self.waited = {"train": 0, "validation": 0}

    def judge(self, step: int) -> str:
        loss = self.loss(step)
        if loss is None or self.is_training(step):
            self.epoch += [] if loss is None else [loss]
            return ""
        if self.epoch:
            self.note("train", float(np.mean(self.epoch)))
            self.epoch = []
        self.note("validation", loss)
        late = [split for split, epochs in self.waited.items() if epochs >= self.parameters[f"patience_{split}"]]
        return f"the {late[0]} loss has not improved for {self.waited[late[0]]} epochs" if late else ""

    def note(self, split: str, loss: float) -> None:
        if loss < self.best[split] - self.parameters["delta"]:
            self.best[split], self.waited[split] = loss, 0
        else:
            self.waited[split] += 1


class LabelRule(HealthRule):
    """Count labels and predictions of training batches in a confusion matrix."""

    def __init__(self, readings: Readings, **parameters: Any) -> None:
        super().__init__(readings, **parameters)
        self.matrix = np.zeros((0, 0), dtype=np.int64)

    def count(self, step: int) -> bool:
        """Add a step's batch to the matrix (rows: true classes); return whether there was one."""
        labels, outputs = (list(self.vectors(step, name).values()) for name in (LABELS, PREDICTIONS))
        if not labels or not outputs or labels[0].ndim != 1 or outputs[0].ndim != 2:
            return False
        classes = self.parameters.get("category_no") or outputs[0].shape[1]
        if not len(self.matrix):
            self.matrix = np.zeros((classes, classes), dtype=np.int64)
        np.add.at(self.matrix, (labels[0].astype(np.int64), np.nan_to_num(outputs[0]).argmax(1)), 1)
        return True


class ClassImbalance(LabelRule):
    """Trigger when some classes are seen far more often than others, or a rare class is mostly confused with another.

    It waits for `samples` labels, and for ten of each class: fewer differ by chance.
    """

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "threshold_imbalance": 10.0,
        "threshold_misprediction": 0.7,
        "samples": 500,
        "argmax": True,
        "labels_regex": LABELS,
        "predictions_regex": PREDICTIONS,
    }
    NEEDS = "labels"

    def judge(self, step: int) -> str:
        if not self.is_training(step) or not self.count(step):
            return ""
        counts, total = self.matrix.sum(1), int(self.matrix.sum())
        if total < max(self.parameters["samples"], ENOUGH_OF_A_CLASS * len(counts)):
            return ""
        rare, common = int(counts.argmin()), int(counts.argmax())
        if counts[common] > self.parameters["threshold_imbalance"] * counts[rare]:
            return f"class {common} was seen {counts[common]} times, class {rare} {counts[rare]} times"
        wrong = 1 - np.diag(self.matrix) / np.maximum(counts, 1)
        missed = [
            one
            for one in np.flatnonzero(2 * counts < counts.mean())
            if wrong[one] > self.parameters["threshold_misprediction"]
        ]
        if not missed:
            return ""
        return f"class {missed[0]} is rare, and {wrong[missed[0]]:.0%} of it is taken for another"


class Confusion(LabelRule):
    """Trigger when classes are confused with one another towards the end of training.

    It starts at start_step, a count of training steps: a network that is still learning confuses everything.
    """

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "category_no": None,
        "labels": "labels",
        "predictions": "predictions",
        "min_diag": 0.9,
        "max_off_diag": 0.1,
        "start_step": 0,
    }
    NEEDS = "labels"

    def judge(self, step: int) -> str:
        if (
            not self.is_training(step)
            or self.base_trial.mode_step(step) < self.parameters["start_step"]
            or not self.count(step)
        ):
            return ""
        counts = self.matrix.sum(1)
        if counts.sum() < ENOUGH_OF_A_CLASS * len(counts):
            return ""
        shares = self.matrix / np.maximum(counts, 1)[:, None] * (counts >= ENOUGH_OF_A_CLASS)[:, None]
        np.fill_diagonal(shares, 0)
        true, taken = np.unravel_index(int(shares.argmax()), shares.shape)
        right = np.trace(self.matrix) / counts.sum()
        if shares[true, taken] > self.parameters["max_off_diag"]:
            return f"{shares[true, taken]:.0%} of class {true} is taken for class {taken}"
        return f"only {right:.0%} is judged right" if right < self.parameters["min_diag"] else ""


RULES: dict[str, type[HealthRule]] = {
    rule.__name__: rule
    for rule in (
        VanishingGradient,
        ExplodingTensor,
        LossNotDecreasing,
        Overfit,
        Overtraining,
        PoorWeightInitialization,
        DeadRelu,
        SaturatedActivation,
        WeightUpdateRatio,
        UnchangedTensor,
        AllZero,
        ClassImbalance,
        Confusion,
    )
}
