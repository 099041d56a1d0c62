"""Let a run's candidates answer the same validation and test images, and choose the one that ships.

The candidates are the final training's weights, the fitted head that it began with, the best blend of those two (each
weight interpolated: robust fine-tuning, Wortsman and others, 2022), and the best trial's model. The best by the
objective on validation ships; the test split is answered to tell, and never chooses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from job.metrics import log
from job.settings import TrainingError, read_hyperparameters
from judging.evaluate import hits, measure, standard_error
from learning.engine import Progress, Stopped, copy_weights
from learning.model import find_head
from learning.preparation import Course, Setup, make_network
from learning.shipping import Judged, Shipped
from learning.weights import State, find_weights
from torch import nn

from comparing.answers import StopAsked, answer, answer_split
from comparing.archives import Artifact, Unusable, read_artifact

ALPHAS = (0.25, 0.5, 0.75)  # the fine-tuned share of a blend
SHARES = {"head": 0.0, "final": 1.0}
# Hyperparameters that belong to the run and its dataset, not to the trial.
OWN = (
    *("run_id", "objective", "profile", "refit", "max_runtime", "trial_job", "live_run"),
    *("class_level", "name_encoding", "ignore", "group", "labels"),
)


@dataclass(frozen=True)
class Candidate:
    """A model that may ship, with its answers on validation and test.

    setup: its network and its settings. place: puts its weights into that network. epochs: how many its training took,
    0 for a fitted head, None if that is not known.
    """

    shipped: Shipped
    judged: Judged
    setup: Setup
    place: Callable[[], None]
    epochs: int | None = None


@dataclass
class Rivals:
    """What the final training has to choose from: its network, and the weights that it came to and began with.

    tuned: the weights of the best epoch, or of the last one where none was better than the fitted head. fitted: the
    head's weights in epoch 0, if there was one. epochs: how many `tuned` took. pace: seconds an epoch. start: all
    weights of epoch 0, in the form of the learner's network.
    """

    setup: Setup
    course: Course
    tuned: State
    fitted: State | None
    epochs: int = 0
    pace: float = 0.0
    start: State | None = None

    @property
    def network(self) -> nn.Module:
        return self.course.learner.network

    def find_start(self) -> bool:
        """Find the weights of epoch 0; the backbone's are read again. Return whether there was an epoch 0."""
        if self.fitted is None or self.network is self.setup.head:
            self.start = self.fitted
        else:
            chosen, classes = self.setup.chosen, len(self.setup.dataset.classes)
            state = find_weights(chosen.architecture, "imagenet", self.setup.job.places.weights, log)
            network = make_network(chosen, classes, state)
            find_head(network, classes).load_state_dict(self.fitted)
            self.start = network.state_dict()
        return self.start is not None

    def blend(self, alpha: float) -> None:
        """Give the network weights between the fitted head (0) and the fine-tuned ones (1), without another copy."""
        start = self.start or self.tuned
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                value.copy_(mix(start[name], self.tuned[name], alpha))

    def answer(self, split: str, stop_asked: StopAsked) -> torch.Tensor:
        """Return the logits of the network's present weights."""
        return answer(self.network, self.course.inputs(split), stop_asked)

    def judge(self, stop_asked: StopAsked) -> Judged:
        """Return the answers of the network's present weights on both splits."""
        return Judged(0, self.answer("valid", stop_asked), self.answer("test", stop_asked))


def mix(start: torch.Tensor, tuned: torch.Tensor, alpha: float) -> torch.Tensor:
    """Interpolate one tensor. Either end is exact, also beside weights of the other that are not finite."""
    if alpha in (0.0, 1.0) or not tuned.is_floating_point():
        return tuned if alpha else start
    return torch.lerp(start, tuned, alpha)


def collect(setup: Setup, course: Course, progress: Progress) -> Rivals:
    """Keep what a training came to. Call it before the best epoch's weights are restored."""
    tuned = progress.best_weights if progress.best_epoch else None
    epochs, pace = progress.best_epoch or progress.epoch, progress.spent / max(1, progress.epoch)
    return Rivals(setup, course, tuned or copy_weights(course.learner.network), progress.head, epochs, pace)


def judge_own(rivals: Rivals, known: Judged, stop_asked: StopAsked) -> Iterator[Candidate]:
    """Judge this training's own candidates, the one first that is in place: the best epoch, whose answers are known."""
    setup, job, kept = rivals.setup, rivals.setup.job.name, "final" if known.epoch else "head"
    yield make_candidate(rivals, Shipped(kept, job), known)
    if not rivals.find_start():
        return
    other = "head" if known.epoch else "final"
    rivals.blend(SHARES[other])
    yield make_candidate(rivals, Shipped(other, job), rivals.judge(stop_asked))
    best, alpha = -math.inf, ALPHAS[0]
    for share in ALPHAS:
        rivals.blend(share)
        value = measure(rivals.answer("valid", stop_asked), setup.dataset.valid.labels)[setup.chosen.objective]
        best, alpha = max((best, alpha), (value, share))
    rivals.blend(alpha)
    yield make_candidate(rivals, Shipped("blend", job, alpha), rivals.judge(stop_asked))


def make_candidate(rivals: Rivals, shipped: Shipped, judged: Judged) -> Candidate:
    share = SHARES.get(shipped.candidate, shipped.alpha)
    epochs = 0 if shipped.candidate == "head" else rivals.epochs
    return Candidate(shipped, judged, rivals.setup, lambda: rivals.blend(float(share or 0.0)), epochs)


def judge_trial(setup: Setup, stop_asked: StopAsked) -> Iterator[Candidate]:
    """Judge the best trial's model, if there is one, and if it is one of this dataset."""
    places = setup.job.places
    if not setup.chosen.trial_job and not places.trial:
        return
    if stop_asked():
        raise Stopped
    trial = read_artifact(places.trial, places.output / "scratch" / "trial")
    own = adopt(setup, trial)
    network = own.network.to(setup.device, memory_format=torch.channels_last)
    logits = [
        answer_split(setup, network, own.inputs, split, torch.arange(len(split)), stop_asked)
        for split in (setup.dataset.valid, setup.dataset.test)
    ]
    name = setup.chosen.trial_job or str(trial.manifest.get("training_job_name") or "")
    epochs = trial.manifest.get("epoch")
    known = epochs if type(epochs) is int and 0 <= epochs <= own.chosen.epochs else None
    yield Candidate(Shipped("trial", name), Judged(0, *logits), own, lambda: None, known)


def adopt(setup: Setup, trial: Artifact) -> Setup:
    """Return the trial's settings on this training's dataset. Raise Unusable for a model of other classes or images."""
    if trial.classes != setup.dataset.classes:
        raise Unusable("its classes are not those of the dataset")
    trained = trial.manifest.get("training_image_hashes")
    if not isinstance(trained, list) or sorted(map(str, trained)) != sorted(setup.dataset.train.hashes):
        raise Unusable("it was trained on other images than this training")
    given = trial.manifest.get("hyperparameters")
    try:
        chosen = read_hyperparameters(given if isinstance(given, dict) else {}, lambda _: None)
    except TrainingError as error:
        raise Unusable(f"its hyperparameters cannot be read ({error})") from error
    own = {name: getattr(setup.chosen, name) for name in OWN}
    chosen = replace(chosen, **own, architecture=trial.architecture, image_size=trial.inputs.image_size)
    pretrained = "imagenet" if trial.manifest.get("pretrained") == "imagenet" else "none"
    head = find_head(trial.network, len(trial.classes))
    return replace(
        setup, chosen=chosen, network=trial.network, head=head, pretrained=pretrained, inputs=trial.inputs, features={}
    )


def describe_candidate(candidate: Candidate, objective: str) -> dict[str, Any]:
    """Describe a candidate as comparison.json does."""
    data, judged = candidate.setup.dataset, candidate.judged
    valid, right = measure(judged.valid, data.valid.labels), hits(judged.test, data.test.labels)
    return {
        **candidate.shipped.describe()["shipped"],
        "valid": {
            "images": len(data.valid),
            "objective": valid[objective],
            "standard_error": standard_error(judged.valid, data.valid.labels, objective),
            "accuracy": valid["accuracy"],
        },
        "test": {"images": len(data.test), "accuracy": float(right.mean()), "correct": int(right.sum())},
    }


def choose(candidates: Sequence[Candidate], objective: str) -> Candidate:
    """Return the best candidate by the objective on validation; of equal ones the first."""

    def value(candidate: Candidate) -> float:
        return measure(candidate.judged.valid, candidate.setup.dataset.valid.labels)[objective]

    return max(candidates, key=value)
