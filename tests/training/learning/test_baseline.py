"""Tests of the baseline: what it measures, and what it must not change."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from job.settings import Hyperparameters
from learning.baseline import choose_defaults, measure_baseline, sum_up, train_defaults
from learning.preparation import Course, Setup

from tests.training.profiled import set_up

MEASURES = {"loss", "accuracy", "macro_precision", "macro_recall", "macro_f1"}


def weights(setup: Setup) -> list[float]:
    return [float(value.double().sum()) for value in setup.network.state_dict().values()]


def answer(setup: Setup, course: Course) -> dict[str, Any]:
    """Return a training's own measures on the test split."""
    return sum_up(course.judge.answer("test"), setup.dataset.test.labels, setup.dataset.classes)


def test_the_baseline_is_measured_and_kept(tmp_path: Path) -> None:
    """Valid and test are measured with default settings, and the tuned network is not touched."""
    setup, course = set_up(tmp_path, epochs=6, learning_rate=9.0)
    before = weights(setup)
    content = measure_baseline(setup, tmp_path / "job", course.judge.answer)
    assert (content["kind"], content["same"], content["epochs"]) == ("default_hyperparameters", False, 6)
    assert json.loads((tmp_path / "job/baseline.json").read_text()) == content
    assert set(content["valid"]) == set(content["test"]) == MEASURES
    assert all(0 <= content["test"][name] <= 1 for name in MEASURES - {"loss"})
    assert weights(setup) == before


def test_the_defaults_are_those_of_the_recipe_and_the_program(tmp_path: Path) -> None:
    """Tuned hyperparameters return to their defaults; what the recipe decides stays, all of the epochs too."""
    setup, _ = set_up(tmp_path, epochs=7, learning_rate=9.0, batch_size=8, weight_decay=0.1, objective="accuracy")
    chosen = choose_defaults(setup.chosen)
    assert (chosen.learning_rate, chosen.batch_size, chosen.weight_decay, chosen.fine_tune) == (1.0, 32, 0.01, "all")
    assert (chosen.epochs, chosen.objective, chosen.image_size) == (7, "accuracy", 16)
    shallow = Hyperparameters(pretrained="imagenet", fine_tune="last_block", baseline_depth="last_block", patience=3)
    assert (choose_defaults(shallow).fine_tune, choose_defaults(shallow).patience) == ("last_block", 3)


def test_a_default_training_is_its_own_baseline(tmp_path: Path) -> None:
    """It gains nothing over itself, and no second network is trained."""
    setup, course = set_up(tmp_path, batch_size=32)
    content = measure_baseline(setup, tmp_path / "job", course.judge.answer, stop_asked=lambda: True)
    assert content["same"]
    assert content["test"] == answer(setup, course)


def test_a_refitted_training_is_measured_against_itself_as_it_was(tmp_path: Path) -> None:
    """A baseline is not refitted, so what the further images gain is a gain over it."""
    setup, course = set_up(tmp_path, batch_size=32)
    data = setup.dataset

    def know(name: str) -> torch.Tensor:
        return torch.nn.functional.one_hot(getattr(data, name).labels).float()

    content = measure_baseline(setup, tmp_path / "job", know, course.judge.answer, stop_asked=lambda: True)
    assert content["same"]
    assert content["test"] == answer(setup, course)
    assert content["better"] == round((1 - content["test"]["accuracy"]) * len(data.test)) > content["worse"] == 0


def test_the_baseline_is_what_a_default_training_reaches(tmp_path: Path) -> None:
    """A tuned training's baseline and a training with the default hyperparameters come to the same measures."""
    tuned, course = set_up(tmp_path / "tuned", learning_rate=4.0, fine_tune="all")
    told = measure_baseline(tuned, tmp_path / "job", course.judge.answer)
    default, own = set_up(tmp_path / "default", batch_size=32)
    trained = train_defaults(default, choose_defaults(default.chosen), lambda: False)
    assert not told["same"]
    assert told["test"] == sum_up(trained("test"), default.dataset.test.labels, default.dataset.classes)
    assert told["test"] != answer(default, own), "the network as it was before its first step"


def test_a_baseline_begins_from_the_same_weights_with_a_fitted_head(tmp_path: Path) -> None:
    """Under pretrained weights even one step's baseline separates bars, discs and rings better than chance."""
    plain, _ = set_up(tmp_path / "plain", image_size=32)
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.save(plain.network.state_dict(), folder / "resnet18.pth")
    setup = replace(plain, pretrained="imagenet", chosen=replace(plain.chosen, pretrained="imagenet", epochs=1))
    setup = replace(setup, job=replace(setup.job, places=replace(setup.job.places, weights=folder)))
    defaults = replace(choose_defaults(setup.chosen), fine_tune="head", learning_rate=1e-9)
    trained = train_defaults(setup, defaults, lambda: False)
    found = sum_up(trained("test"), setup.dataset.test.labels, setup.dataset.classes)
    assert found["accuracy"] > 0.5


def test_a_stop_ends_the_baseline(tmp_path: Path) -> None:
    """A job that is asked to stop writes no baseline and is not delayed by one."""
    setup, course = set_up(tmp_path)
    assert measure_baseline(setup, tmp_path / "job", course.judge.answer, stop_asked=lambda: True) is None
    assert not (tmp_path / "job").exists()


def test_a_baseline_can_be_repeated(tmp_path: Path) -> None:
    """The same data give the same baseline, whatever random numbers were drawn before."""
    setup, course = set_up(tmp_path)
    first = measure_baseline(setup, tmp_path / "job", course.judge.answer)
    torch.rand(7)
    assert measure_baseline(setup, tmp_path / "job", course.judge.answer)["test"] == first["test"]
