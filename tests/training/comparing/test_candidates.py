"""Tests of what the final training ships: the best of its candidates by the objective on validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing.candidates import ALPHAS, Rivals, judge_own
from job.settings import Hyperparameters, Job
from learning.engine import copy_weights
from learning.preparation import make_course, prepare

from tests.training.comparing.compared import (
    NETWORK,
    QUICK,
    Never,
    draw_files,
    load_shipped,
    make_job,
    pack,
    read,
    shuffle_labels,
    train,
    with_channels,
)

MakeJob = Callable[[Mapping[str, bytes]], Job]
DIVERGING = {"learning_rate": 1e8, "weight_decay": 1.0}
UNTAUGHT = {"pretrained": "none", "learning_rate": 1e-7, "fine_tune": "all", "seed": 3}


def find(comparison: Mapping[str, Any], name: str) -> Any:
    return next((each for each in comparison["candidates"] if each["candidate"] == name), None)


def test_a_better_trial_ships_from_the_last_trainings_artifact(good: Job, new_job: MakeJob) -> None:
    """Weights, manifest and evaluation are the trial's, and all candidates answered the same images."""
    job = with_channels(new_job(draw_files()), trial=pack(good))
    session = train(job, **UNTAUGHT, trial_job="job-of-trial")
    comparison, manifest, evaluation = (read(job, name) for name in ("comparison", "manifest", "evaluation"))
    trial, final = find(comparison, "trial"), find(comparison, "final")
    assert comparison["ships"] == "trial"
    assert trial["valid"]["objective"] > final["valid"]["objective"]
    assert trial["valid"]["images"] == final["valid"]["images"] == 24
    assert all(torch.equal(value, load_shipped(good)[name]) for name, value in load_shipped(job).items())
    assert manifest["shipped"] == evaluation["shipped"] == {"candidate": "trial", "job": "job-of-trial", "alpha": None}
    assert (manifest["run_id"], manifest["pretrained"]) == ("run-new", "imagenet")
    assert manifest["hyperparameters"]["learning_rate"] == 1.0 != session.setup.chosen.learning_rate
    assert evaluation["objective"]["value"] == pytest.approx(trial["valid"]["objective"])
    assert evaluation["test"]["accuracy"] == pytest.approx(trial["test"]["accuracy"])
    assert comparison["floor"]["correct"] == trial["test"]["correct"]
    assert read(job, "predictions")["temperature"] == manifest["temperature"]


def test_a_trial_with_other_inputs_answers_the_same_images(good: Job, new_job: MakeJob, tmp_path: Path) -> None:
    """A trial of another image size is decoded for at its own size, and the manifest says so when it ships."""
    other = make_job(tmp_path / "other", draw_files(), good.places.weights)
    train(other, image_size=48, profile=False)
    job = with_channels(new_job(draw_files()), trial=pack(other))
    train(job, **UNTAUGHT, trial_job="job-of-other")
    trial, before = find(read(job, "comparison"), "trial"), read(other, "evaluation")
    assert trial["test"]["accuracy"] == pytest.approx(before["test"]["accuracy"])
    assert trial["valid"]["objective"] == pytest.approx(before["selection"]["validation"], abs=1e-4)
    assert (read(job, "manifest")["image_size"], read(job, "comparison")["ships"]) == (48, "trial")


def test_a_worse_trial_does_not_ship(good: Job, new_job: MakeJob, tmp_path: Path) -> None:
    """The final training's own weights stay in place where they are better."""
    other = make_job(tmp_path / "other", draw_files(), good.places.weights)
    train(other, **UNTAUGHT)
    job = with_channels(new_job(draw_files()), trial=pack(other))
    train(job, trial_job="job-of-other")
    assert read(job, "comparison")["ships"] != "trial"
    assert read(job, "manifest")["shipped"]["job"] == job.name


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "cannot be read"),
        (lambda path: path.unlink(), "is gone"),
    ],
)
def test_a_torn_or_missing_trial_is_told(
    good: Job, new_job: MakeJob, tmp_path: Path, break_it: Callable[[Path], None], told: str
) -> None:
    """The training ends well, ships its own, and says what it could not compare."""
    channel = tmp_path / "trial"
    channel.mkdir()
    (channel / "model.tar.gz").write_bytes((pack(good) / "model.tar.gz").read_bytes())
    break_it(channel / "model.tar.gz")
    job = with_channels(new_job(draw_files()), trial=channel)
    train(job, trial_job="job-of-trial")
    comparison = read(job, "comparison")
    assert find(comparison, "trial") is None
    assert any(told in problem for problem in comparison["problems"])


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (draw_files(("red", "green", "grey")), "its classes"),
        (draw_files(first=500), "other images"),
    ],
)
def test_a_trial_of_another_dataset_is_no_candidate(
    good: Job, new_job: MakeJob, files: Mapping[str, bytes], told: str
) -> None:
    """What it knows of validation and test images cannot be told, so it is not judged by them."""
    job = with_channels(new_job(files), trial=pack(good))
    train(job, trial_job="job-of-trial")
    assert any(told in problem for problem in read(job, "comparison")["problems"])


@pytest.mark.parametrize("depth", ["head", "all"])
def test_the_fitted_head_ships_where_training_only_harms_it(new_job: MakeJob, weights: Path, depth: str) -> None:
    """The head is epoch 0: a training at an absurd rate ships it, backbone as loaded, and tells what training made."""
    job = new_job(draw_files())
    session = train(job, fine_tune=depth, **DIVERGING, epochs=2)
    comparison = read(job, "comparison")
    assert (session.progress.best_epoch, comparison["ships"]) == (0, "head")
    assert find(comparison, "head")["valid"]["objective"] > find(comparison, "final")["valid"]["objective"]
    assert read(job, "manifest")["shipped"]["candidate"] == "head"
    given, shipped = torch.load(weights / f"{NETWORK}.pth"), load_shipped(job)
    assert all(torch.equal(value, shipped[name]) for name, value in given.items() if not name.startswith("fc."))
    assert read(job, "evaluation")["test"]["accuracy"] == pytest.approx(find(comparison, "head")["test"]["accuracy"])


def test_a_trial_keeps_the_fitted_head_too_and_compares_nothing(new_job: MakeJob) -> None:
    """Epoch 0 is judged in every fine-tuning, and only the final training compares."""
    job = new_job(draw_files())
    session = train(job, profile=False, fine_tune="all", **DIVERGING)
    assert session.progress.best_epoch == 0
    assert read(job, "evaluation")["objective"]["value"] == session.progress.best["score"]
    assert not (job.places.checkpoints / "comparison.json").exists()


def test_a_blend_ships_where_it_is_better_than_its_ends(new_job: MakeJob) -> None:
    """Of weights on either side of good ones, those halfway are chosen, by validation."""
    job = new_job(draw_files())
    setup = prepare(job, Hyperparameters(**QUICK))
    session = train(replace(job, name="again"))
    good, course = copy_weights(session.setup.head), make_course(setup)
    torch.manual_seed(0)
    aside = {name: 3 * value.std() * torch.randn_like(value) for name, value in good.items()}
    start, tuned = ({name: good[name] + sign * aside[name] for name in good} for sign in (1, -1))
    rivals = Rivals(setup, course, tuned, start)
    rivals.blend(1.0)
    judged = list(judge_own(rivals, replace(rivals.judge(Never()), epoch=1), Never()))
    assert [each.shipped.candidate for each in judged] == ["final", "head", "blend"]
    assert judged[2].shipped.alpha == 0.5 in ALPHAS
    judged[2].place()
    assert all(torch.allclose(value, good[name], atol=1e-4) for name, value in setup.head.state_dict().items())


def test_a_stop_at_any_moment_leaves_a_model_that_agrees_with_its_evaluation(new_job: MakeJob, good: Job) -> None:
    """Whatever was judged until then counts, and comparison.json says what was not."""
    job = with_channels(new_job(shuffle_labels(draw_files())), live_model=pack(good))
    told = []
    for looks in (0, 2, 4, 7):
        train(job, stop=Never(after=looks), live_run="run-live", epochs=2)
        comparison, manifest, evaluation = (read(job, name) for name in ("comparison", "manifest", "evaluation"))
        assert comparison["ships"] == manifest["shipped"]["candidate"] == evaluation["shipped"]["candidate"]
        assert manifest["metrics"]["test"]["accuracy"] == evaluation["test"]["accuracy"]
        assert "ended before" in comparison["live"]["problem"]
        told.append(len(comparison["candidates"]))
    assert told == sorted(told)
    assert told[0] == 1 < told[-1]
