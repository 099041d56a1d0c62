"""Judge a training by its course: its labels, the losses of its epochs, and its answers on the validation images.

Each rule is pure. Where what it needs is missing, it says what, and is not judged. benchmarks/judging/rules.py sets the
thresholds on one collection of trainings, and counts false alarms and missed faults on another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np
from judging.intervals import find_interval

from debugger.course import Counts, Course

LATE = 0.8  # of the epochs: before that, even a network that learns well still confuses classes


class CourseRule:
    """The base: parameters, what is missing, and a sentence on what is wrong."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, **parameters: Any) -> None:
        self.parameters = {**self.DEFAULTS, **parameters}
        self.rule_name = type(self).__name__

    def find_missing(self, course: Course) -> str:
        """Return what the rule needs and the training does not have, or an empty string."""
        raise NotImplementedError

    def judge(self, course: Course) -> str:
        """Return what is wrong, or an empty string. Called only if nothing is missing."""
        raise NotImplementedError


class LossNotDecreasing(CourseRule):
    """Find a training loss that has not fallen below what a model reaches that knows only the classes' shares."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"least_fall": 0.03}

    def find_missing(self, course: Course) -> str:
        return "" if course.counts and course.list_losses("train") else "no epoch has ended"

    def judge(self, course: Course) -> str:
        ignorance, losses = course.find_ignorance(), course.list_losses("train")
        before = max([ignorance, *(loss for _, loss in course.losses[:1] if math.isfinite(loss))])
        if course.share < 0.5 or min(losses) < (1 - self.parameters["least_fall"]) * ignorance:
            return ""
        return f"the training loss is {losses[-1]:.3g} after {len(losses)} epochs, and began at {before:.3g}"


class LearningRateTooHigh(CourseRule):
    """Find a training loss that rises above its beginning, or that fell and is lost again: each step overshoots.

    The first epoch may begin anywhere. A later one whose mean loss lies above that of guessing overshoots: a network
    that has learnt nothing reaches that of guessing. It is lost again if the last two epochs lie above the lowest by a
    share of the loss of knowing nothing.
    """

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"ratio": 1.5, "window": 3, "lost": 0.06, "above": 1.02}

    def find_missing(self, course: Course) -> str:
        return "" if course.counts and course.list_losses("train") else "no epoch has ended"

    def judge(self, course: Course) -> str:
        begun = max([math.log(max(len(course.counts), 2)), *(loss for _, loss in course.losses[:1])])
        if not math.isfinite(begun):
            return ""
        window = self.parameters["window"]
        saved = [loss for _, loss in course.losses]
        means = [float(np.mean(saved[at : at + window])) for at in range(1, len(saved) - window + 1)]
        epochs = [bound(loss) for loss in course.list_losses("train")]
        highest, lowest, kept = max([*map(bound, means), *epochs]), min(epochs), min(epochs[-2:])
        rose = any(loss > self.parameters["above"] * begun for loss in epochs[1:])
        if rose or highest > self.parameters["ratio"] * begun:
            return f"the training loss rose from {begun:.3g} to {highest:.3g}"
        if kept > lowest + self.parameters["lost"] * course.find_ignorance():
            return f"the training loss had fallen to {lowest:.3g}, and is back at {epochs[-1]:.3g}"
        return ""


def bound(loss: float) -> float:
    """Return a loss that can be compared: that of a diverged network is infinite."""
    return loss if math.isfinite(loss) else math.inf


class TinyBatch(CourseRule):
    """Find batches so small that a step follows the chance of its few images."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"least": 8}

    def find_missing(self, course: Course) -> str:
        return "" if course.batch_size else "the batch size is not known"

    def judge(self, course: Course) -> str:
        few = course.batch_size < self.parameters["least"]
        return f"a step sees {course.batch_size} image{'s' if course.batch_size != 1 else ''}" if few else ""


class ClassImbalance(CourseRule):
    """Find a class that is far rarer than another, or is rare and mostly taken for another."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "threshold_imbalance": 10.0,
        "threshold_misprediction": 0.7,
        "enough": 10,
    }

    def find_missing(self, course: Course) -> str:
        return "" if course.counts else "the labels are not known"

    def judge(self, course: Course) -> str:
        counts = np.array(course.counts)
        rare, common = int(counts.argmin()), int(counts.argmax())
        if counts[common] >= self.parameters["threshold_imbalance"] * max(counts[rare], 1):
            return f"{course.name(common)} has {counts[common]} training images, {course.name(rare)} has {counts[rare]}"
        for label in np.flatnonzero(2 * counts < counts.mean()) if course.matrix and course.share >= LATE else ():
            row = course.matrix[label]
            images, wrong = sum(row), sum(row) - row[label]
            if images >= self.parameters["enough"] and wrong > self.parameters["threshold_misprediction"] * images:
                return (
                    f"{course.name(label)} is rare, and {wrong} of its {images} validation images are taken for another"
                )
        return ""


class LateRule(CourseRule):
    """Judge the answers on the validation images, towards the end of the training."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"images": 20}

    def find_missing(self, course: Course) -> str:
        images = sum(map(sum, course.matrix))
        if not images:
            return "no validation has answered"
        if images < self.parameters["images"]:
            return f"{images} validation images are too few, {self.parameters['images']} are needed"
        return "" if course.share >= LATE else f"the training has run {course.share:.0%} of its epochs"


class NearChance(LateRule):
    """Find answers that agree with the labels hardly more often than chance would, with the same shares of classes.

    Cohen's kappa: 0 for guessing, and for always giving the most frequent class; 1 for right answers alone. The answers
    are those of the best epoch, and the best of many epochs of guessing is better than chance by itself. Up to twice
    that kappa, answers are near chance too if no epoch's loss, at its best temperature, was lower than that of knowing
    nothing: classes that lean to the right labels by chance make answers right, but not sure.
    """

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"images": 20, "kappa": 0.1, "error": 0.025, "gain": 0.02}

    def judge(self, course: Course) -> str:
        right, expected, deviation, images = measure_agreement(course.matrix)
        kappa = (right - expected) / max(images - expected, 1e-9)
        deviations = NormalDist().inv_cdf(1 - self.parameters["error"] / max(1, len(course.records)))
        beyond = right - expected > deviations * deviation
        least = self.parameters["kappa"] * (1 if self.has_gained(course) else 2)
        if kappa > least and beyond:
            return ""
        return f"{right} of {images} validation images are right, and chance alone would give {expected:.0f}"

    def has_gained(self, course: Course) -> bool:
        """Return whether the loss of an epoch was lower than that of knowing nothing, if losses are known."""
        bound = (1 - self.parameters["gain"]) * course.find_ignorance()
        return not course.tempered or min(mean for mean, _ in course.tempered) < bound


def measure_agreement(matrix: Counts) -> tuple[int, float, float, int]:
    """Return right answers, how many chance would give by shuffling the answers, its deviation, and all answers."""
    counts = np.array(matrix, dtype=float)
    rows, columns, images = counts.sum(1), counts.sum(0), counts.sum()
    products = rows * columns
    expected = products.sum() / images
    alone = (products * (images - rows) * (images - columns)).sum() / images**2
    together = (products.sum() ** 2 - (products**2).sum()) / images**2
    variance = (alone + together) / max(images - 1, 1)
    return int(np.trace(counts)), float(expected), math.sqrt(max(variance, 0.0)), int(images)


class Confusion(LateRule):
    """Find two classes that are hardly told apart, while others are.

    Of the images of either class that are taken for one of the two, guessing takes half for the wrong one. Images that
    are taken for a third class say nothing of these two. So many errors must be beyond chance, whichever pair has them,
    and far more than other pairs have.
    """

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"images": 20, "errors": 0.38, "surely": 0.2, "ratio": 2.5}

    def judge(self, course: Course) -> str:
        matrix = np.array(course.matrix, dtype=float)
        pairs = np.triu_indices(len(matrix), 1)
        wrong, right = (matrix + matrix.T)[pairs], np.add.outer(np.diag(matrix), np.diag(matrix))[pairs]
        if len(wrong) < 2:
            return ""
        held = wrong + right
        many = np.flatnonzero(wrong >= self.parameters["errors"] * np.maximum(held, 1))
        for at in many[np.argsort(-wrong[many], kind="stable")]:
            usual = (wrong.sum() - wrong[at]) / max(held.sum() - held[at], 1)
            if self.is_beyond(int(wrong[at]), int(held[at]), usual, len(wrong)):
                one, other = (course.name(int(labels[at])) for labels in pairs)
                told = f"{one} and {other} are hardly told apart"
                return f"{told}: {wrong[at]:.0f} of {held[at]:.0f} validation images of theirs are taken for the other"
        return ""

    def is_beyond(self, wrong: int, held: int, usual: float, pairs: int) -> bool:
        """Return whether a pair's share of errors is beyond chance, whichever pair has it, and beyond what is usual."""
        low, _ = find_interval(wrong / held, held, 1 - 0.05 / pairs)
        return low > self.parameters["surely"] and wrong > self.parameters["ratio"] * usual * held


class Overfit(CourseRule):
    """Find a training that loses again what it had learnt of the validation images, while its own loss does not rise.

    A loss that rises while answers stay right is usual: they become too sure of themselves, which a temperature mends.
    So the losses are those at each epoch's best temperature. For the last epochs they lie above the lowest by more than
    noise, by a share of what had been gained on knowing nothing, and by no less than a share of the loss of knowing
    nothing.
    """

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "warm_up": 0.25,
        "patience": 3,
        "lost": 0.25,
        "rise": 0.02,
        "least": 0.03,
        "deviations": 2.5,
    }

    def find_missing(self, course: Course) -> str:
        needed = self.count_warm_up(course) + 1 + self.parameters["patience"]
        if course.epochs < needed:
            return f"{course.epochs} epochs are too few, {needed} are needed"
        if not course.counts or not course.list_losses("valid"):
            return "no epoch has ended"
        return "" if len(course.tempered) == len(course.records) else "not every validation has answered"

    def count_warm_up(self, course: Course) -> int:
        """Return the epochs in which the learning rate still rises, in which losses rise by themselves."""
        return max(1, math.ceil(self.parameters["warm_up"] * course.epochs))

    def judge(self, course: Course) -> str:
        if len(course.records) < self.count_warm_up(course) + self.parameters["patience"]:
            return ""
        means, train = [mean for mean, _ in course.tempered], course.list_losses("train")
        best = int(np.argmin(means))
        has_risen = train[-1] > train[best] + self.parameters["least"] * course.find_ignorance()
        if has_risen or not self.has_lost(course, means[best]):
            return ""
        told = f"the validation loss, at its best temperature, rose from {means[best]:.3g} in epoch {best + 1}"
        return f"{told} to {means[-1]:.3g}, while the training loss went from {train[best]:.3g} to {train[-1]:.3g}"

    def has_lost(self, course: Course, lowest: float) -> bool:
        """Return whether each of the last epochs lies so far above the lowest loss."""
        ignorance, deviations = course.find_ignorance(), self.parameters["deviations"]
        most = max(self.parameters["lost"] * (ignorance - lowest), self.parameters["rise"] * ignorance)
        late = course.tempered[-self.parameters["patience"] :]
        return all(mean - lowest > max(most, deviations * error) for mean, error in late)


class Overtraining(CourseRule):
    """Find a training whose last epochs, far more than half of all, improved neither split's loss.

    An improvement counts from a share of the loss of knowing nothing. The training loss of an epoch varies with its
    batches, so means over halves of the idle epochs are compared.
    """

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"patience": 10, "share": 0.7, "delta": 0.005}

    def find_missing(self, course: Course) -> str:
        needed = self.parameters["patience"] + 2
        if course.epochs < needed:
            return f"{course.epochs} epochs are too few, {needed} are needed"
        return "" if course.counts and course.list_losses("valid") else "no epoch has ended"

    def judge(self, course: Course) -> str:
        delta, epochs = self.parameters["delta"] * course.find_ignorance(), len(course.records)
        idle = count_idle(course.list_losses("valid"), delta)
        if idle < max(self.parameters["patience"], self.parameters["share"] * epochs):
            return ""
        train = course.list_losses("train")[-idle:]
        if np.mean(train[idle // 2 :]) < np.mean(train[: idle // 2]) - delta:
            return ""
        return f"neither loss has improved for the last {idle} of {epochs} epochs"


def count_idle(losses: Sequence[float], delta: float) -> int:
    """Return the epochs since a loss last improved by more than delta."""
    best, at = math.inf, 0
    for number, loss in enumerate(losses, 1):
        if loss < best - delta:
            best, at = loss, number
    return len(losses) - at


class WorseThanBaseline(CourseRule):
    """Find a model that classifies fewer test images than the baseline does, beyond chance (a paired comparison)."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"deviations": 3.0}

    def find_missing(self, course: Course) -> str:
        return "" if "better" in course.baseline else "there is no baseline"

    def judge(self, course: Course) -> str:
        better, worse = (int(course.baseline[name]) for name in ("better", "worse"))
        if worse - better <= self.parameters["deviations"] * math.sqrt(better + worse):
            return ""
        return f"the baseline classifies {worse} test images correctly that this model does not, and {better} fewer"


COURSE_RULES: dict[str, type[CourseRule]] = {
    rule.__name__: rule
    for rule in (
        LossNotDecreasing,
        LearningRateTooHigh,
        TinyBatch,
        ClassImbalance,
        Confusion,
        NearChance,
        Overfit,
        Overtraining,
        WorseThanBaseline,
    )
}
