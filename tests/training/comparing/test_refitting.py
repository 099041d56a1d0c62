"""Tests of the refit: what ships has learnt from validation images too, and all that judges it is from before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing.candidates import Candidate, Rivals, collect, judge_own
from comparing.refitting import Time, refit, try_refit
from job.settings import Job
from learning.engine import copy_weights
from learning.shipping import Shipped

from tests.training.comparing.compared import (
    Never,
    draw_files,
    load_shipped,
    pack,
    read,
    train,
    with_channels,
)
from tests.training.comparing.test_candidates import DIVERGING, UNTAUGHT

MakeJob = Callable[[Mapping[str, bytes]], Job]
FREE = Time(Never(), lambda _: True)
IMAGES = 3 * (12 + 8)


def differ(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> set[str]:
    """Return the parts of a network in which two states differ."""
    return {name.partition(".")[0] for name, value in one.items() if not torch.equal(value, other[name])}


@pytest.mark.parametrize("depth", ["head", "all"])
def test_what_ships_has_learnt_from_validation_images_and_is_judged_as_before(new_job: MakeJob, depth: str) -> None:
    """The same training with a refit: other weights and another test, but everything from validation is the same."""
    job = new_job(draw_files())
    train(job, fine_tune=depth, epochs=2)
    plain, weights = {name: read(job, name) for name in ("comparison", "manifest", "evaluation")}, load_shipped(job)
    train(job, fine_tune=depth, epochs=2, refit=True)
    comparison, manifest, evaluation = (read(job, name) for name in ("comparison", "manifest", "evaluation"))
    assert comparison["refit"]["done"], comparison["refit"]
    assert differ(weights, load_shipped(job)) >= {"fc"}
    assert (comparison["candidates"], comparison["ships"]) == (
        plain["comparison"]["candidates"],
        plain["comparison"]["ships"],
    )
    for name in ("temperature", "unknown", "image_hashes", "shipped"):
        assert manifest[name] == plain["manifest"][name]
    for name in ("objective", "valid", "shipped"):
        assert evaluation[name] == plain["evaluation"][name]
    assert evaluation.get("selection") == plain["evaluation"].get("selection")
    told = {"epochs": comparison["refit"]["epochs"], "images": IMAGES}
    assert manifest["refitted"] == evaluation["refitted"] == told
    assert manifest["training_image_hashes"] == manifest["image_hashes"]["train"] + manifest["image_hashes"]["valid"]
    assert evaluation["test"]["loss"] != plain["evaluation"]["test"]["loss"]
    assert evaluation["test"]["accuracy"] == comparison["refit"]["test"]["accuracy"] == comparison["floor"]["accuracy"]
    assert comparison["refit"]["before"]["accuracy"] == plain["evaluation"]["test"]["accuracy"]


def begin(job: Job, **chosen: Any) -> tuple[Rivals, list[Candidate]]:
    """Return what a final training has to choose from, at the moment at which it would refit."""
    session = train(job, **{"epochs": 1, **chosen})
    session.progress.spent = 4.0
    rivals = collect(session.setup, session.course, session.progress)
    known = session.shipper.judged
    assert known is not None
    return rivals, list(judge_own(rivals, known, Never()))


def test_a_fitted_head_and_a_blend_are_refitted_as_what_they_are(new_job: MakeJob) -> None:
    """The head is fitted to all images, and a blend lies as far between the two refitted ends as before."""
    rivals, candidates = begin(new_job(draw_files()), **DIVERGING)
    head, final = candidates[:2]
    assert [each.shipped.candidate for each in candidates] == ["head", "final", "blend"]
    blend = replace(candidates[2], epochs=0, shipped=Shipped("blend", "job", 0.5))
    fitted, same = (copy_weights(refit(each, rivals, FREE).setup.head) for each in (head, blend))
    assert not torch.equal(fitted["weight"], rivals.fitted["weight"])
    assert all(torch.equal(value, same[name]) for name, value in fitted.items())
    refused, why = try_refit(final, rivals, FREE)
    assert refused is None
    assert "came to" in why or "diverged" in why
    good = replace(rivals, setup=replace(rivals.setup, chosen=replace(rivals.setup.chosen, learning_rate=1.0)))
    ends = [refit(replace(each, setup=good.setup), good, FREE) for each in (head, replace(final, epochs=1))]
    between = refit(
        replace(candidates[2], setup=good.setup, epochs=1, shipped=Shipped("blend", "job", 0.25)), good, FREE
    )
    for name, value in between.setup.head.state_dict().items():
        start, tuned = (each.setup.head.state_dict()[name] for each in ends)
        assert torch.allclose(value, torch.lerp(start, tuned, 0.25))


def test_what_cannot_be_refitted_ships_as_it_is(new_job: MakeJob) -> None:
    """No time, a request to stop at any look, unknown epochs, or an error: no other model, a reason, and no change."""
    rivals, (winner, *_) = begin(new_job(draw_files()))
    winner.place()
    before = copy_weights(winner.setup.network)
    asked = []
    tries = {
        "raise max_runtime_seconds.training": (winner, Time(Never(), lambda seconds: bool(asked.append(seconds)))),
        "how many epochs": (replace(winner, epochs=None), FREE),
        "the refit failed (RuntimeError": (replace(winner, epochs=1), Time(explode, lambda _: True)),
    }
    for after in (0, 1, 3):
        assert try_refit(replace(winner, epochs=1), rivals, Time(Never(after), lambda _: True)) == (
            None,
            "the training was asked to end",
        )
    for words, (candidate, left) in tries.items():
        found, why = try_refit(candidate, rivals, left)
        assert found is None
        assert words in why
    assert asked == [pytest.approx(1.25 * winner.epochs * 4.0 * IMAGES / 36)]
    assert not differ(before, winner.setup.network.state_dict())


def explode() -> bool:
    raise RuntimeError("the driver is gone")


@pytest.mark.parametrize("knows", [True, False])
def test_a_trial_is_refitted_with_its_own_settings(good: Job, new_job: MakeJob, knows: bool, tmp_path: Path) -> None:
    """Its manifest says for how many epochs; one that does not ships as it is."""
    job = with_channels(new_job(draw_files()), trial=pack(good, lambda told: knows or told.pop("epoch")))
    train(job, **UNTAUGHT, trial_job="job-of-trial", refit=True)
    comparison, manifest = read(job, "comparison"), read(job, "manifest")
    assert comparison["ships"] == manifest["shipped"]["candidate"] == "trial"
    assert comparison["refit"]["done"] == knows == bool(differ(load_shipped(good), load_shipped(job)))
    assert manifest.get("refitted") == (
        {"epochs": read(good, "manifest")["epoch"], "images": IMAGES} if knows else None
    )
    assert manifest["hyperparameters"]["learning_rate"] == 1.0
