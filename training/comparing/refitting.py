"""Train what ships once more, on training and validation images together: the recipe's `refit`.

A refitted model has no images left that could judge it but the test's. So everything that validation decides comes from
the training before: which candidate ships, for how many epochs, temperature, thresholds, and what the gate reads. The
learning rate follows the same course as far as that epoch. The weights that ship answer the test again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from images.assembly import join_splits
from job.metrics import log
from judging.evaluate import hits, measure, standard_error
from learning.baseline import fit_own_head, make_default_setup
from learning.engine import WORST, Progress, Stopped, Totals, copy_weights, run_epoch
from learning.preparation import Course, Setup, make_course
from learning.replaying import allow_replay
from learning.shipping import Refitted

from comparing.answers import StopAsked, answer
from comparing.archives import Unusable
from comparing.candidates import Candidate, Rivals, mix

SLACK = 1.25  # the time that must be there, over what it is expected to take


@dataclass(frozen=True)
class Time:
    """What a refit has: whether it was asked to stop, and whether so many seconds are left beside what comes after."""

    stop_asked: StopAsked
    has: Callable[[float], bool]


def refit(winner: Candidate, rivals: Rivals, left: Time) -> Candidate:
    """Return the winner as it is after a training on all images but the test's. Its own network stays as it is.

    Raise Unusable with the reason where that cannot be done, or came to nothing; Stopped at a request.
    """
    before, begun = winner.setup, time.monotonic()
    if winner.epochs is None:
        raise Unusable("its job did not say how many epochs it took")
    if before.inputs != rivals.setup.inputs:
        raise Unusable("it takes other inputs than this training read")
    images = len(before.dataset.train) + len(before.dataset.valid)
    needed = SLACK * winner.epochs * rivals.pace * images / len(before.dataset.train)
    if not left.has(needed):
        raise Unusable(f"it takes about {needed:.0f} s, and so much is not left; raise max_runtime_seconds.training")
    log(f"refit: the {winner.shipped.candidate} is trained on {images} images for {winner.epochs} epochs")
    own = gather_images(before)
    fit_own_head(own)
    course = make_course(own)
    course.batches.prefetch, course.batches.pin = rivals.course.batches.prefetch, rivals.course.batches.pin
    start = copy_weights(course.learner.network) if winner.shipped.alpha is not None else {}
    train(course, winner.epochs, own.chosen.seed, left.stop_asked)
    for name, value in course.learner.network.state_dict().items() if start else ():
        value.copy_(mix(start[name].to(value.device), value.clone(), float(winner.shipped.alpha or 0.0)))
    check(course, winner, left.stop_asked)
    test = answer(course.learner.network, course.inputs("test"), left.stop_asked)
    log(f"refit: {time.monotonic() - begun:.1f} s")
    shipped = replace(winner.shipped, refitted=Refitted(winner.epochs, images))
    setup = replace(own, dataset=before.dataset)
    return replace(winner, shipped=shipped, judged=replace(winner.judged, test=test), setup=setup, place=lambda: None)


def gather_images(setup: Setup) -> Setup:
    """Return a setup whose training split holds the validation images too, and whose network is as at the beginning."""
    data = setup.dataset
    both = join_splits(data.train, data.valid)
    own = make_default_setup(replace(setup, dataset=replace(data, train=both), held=dict(setup.held)), setup.chosen)
    known = {id(split): setup.features[id(split)] for split in (data.train, data.valid) if id(split) in setup.features}
    if len(known) == 2:  # of the same weights, as they were before the first step
        own.features[id(both)] = torch.cat(list(known.values()))
    if id(data.test) in setup.features:
        own.features.update(known | {id(data.test): setup.features[id(data.test)]})
    return own


def train(course: Course, epochs: int, seed: int, stop_asked: StopAsked) -> None:
    """Make the first epochs of a training, without judging them."""
    learner, progress = course.learner, Progress()
    if epochs:
        allow_replay(learner, course.batches)
    while progress.epoch < epochs:
        run_epoch(learner, course.batches, progress, seed, (), lambda _: None, stop_asked)
        learner.show_average(True)
        loss = progress.totals.means()["loss"]
        progress.epoch, progress.step, progress.totals = progress.epoch + 1, 0, Totals()
        log(f"refit: epoch {progress.epoch} of {epochs} has a loss of {loss:.4f}")
        if loss >= WORST:
            raise Unusable("it diverged: the loss is no number, or too large to come back")


def check(course: Course, winner: Candidate, stop_asked: StopAsked) -> None:
    """Raise Unusable if the images that were added are answered worse than before: then something went wrong."""
    objective, labels = winner.setup.chosen.objective, winner.setup.dataset.valid.labels
    after = measure(answer(course.learner.network, course.inputs("valid"), stop_asked), labels)[objective]
    before = measure(winner.judged.valid, labels)[objective]
    if not after >= before - standard_error(winner.judged.valid, labels, objective):
        raise Unusable(
            f"it came to {after:.4f} on the validation images, which it has learnt; without them {before:.4f}"
        )


def try_refit(winner: Candidate, rivals: Rivals, left: Time) -> tuple[Candidate | None, str]:
    """Return the refitted model, or None and why there is none. Never raises an Exception: a model is in place."""
    try:
        return refit(winner, rivals, left), ""
    except Stopped:
        return None, "the training was asked to end"
    except Unusable as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001  the model that is in place can still be served
        return None, f"the refit failed ({type(error).__name__}: {error})"


def describe_refit(winner: Candidate, refitted: Candidate | None, why: str) -> dict[str, Any]:
    """Build the member `refit` of comparison.json: the tests before and after, or why there was none."""
    if refitted is None or refitted.shipped.refitted is None:
        return {"done": False, "why": why}
    told = refitted.shipped.refitted
    tests = {name: count_hits(each) for name, each in (("before", winner), ("test", refitted))}
    return {"done": True, "epochs": told.epochs, "images": told.images, **tests}


def count_hits(candidate: Candidate) -> dict[str, Any]:
    right = hits(candidate.judged.test, candidate.setup.dataset.test.labels)
    return {"images": len(right), "accuracy": float(right.mean()), "correct": int(right.sum())}
