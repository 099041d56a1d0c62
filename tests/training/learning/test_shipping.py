"""Tests of what is in place while a training goes on: how often the best model is written, and what it costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from learning.engine import Learner, Progress, copy_weights
from learning.preparation import Course, Judge, Setup
from learning.shipping import SHARE, Shipper
from torch import nn

from tests.training.profiled import set_up
from tests.training.tiny import ROOT


class Time:
    """A clock that only the test moves."""

    now = 0.0

    def read(self) -> float:
        return self.now


class Training:
    """Epochs that take the seconds they are told to, of a network that is as small as can be shipped."""

    def __init__(self, setup: Setup, *, seconds: float) -> None:
        """seconds: what judging a split takes."""
        self.time, self.progress, self.judged = Time(), Progress(), []
        self.setup = replace(setup, network=nn.Linear(1, len(setup.dataset.classes)))
        learner = type("Still", (), {"network": self.setup.network})()

        def answer(name: str) -> torch.Tensor:
            self.time.now += seconds
            self.judged.append(name)
            return torch.zeros(len(getattr(setup.dataset, name)), len(setup.dataset.classes))

        self.course = Course(learner, None, Judge(self.setup, answer, self.time.read), lambda name: ())
        self.shipper = Shipper(self.setup, self.course, 0.0, clock=self.time.read)

    def run_epoch(self, seconds: float, *, better: bool = True) -> None:
        """Train for a while, validate, and offer the best model."""
        self.time.now += seconds
        if self.progress.best_weights is None and self.progress.best:
            self.progress.best_weights = copy_weights(self.setup.network)
        nn.init.constant_(self.setup.network.weight, float(self.progress.epoch + 1))
        self.course.validate()
        self.progress.epoch += 1
        if better:
            self.progress.best_epoch, self.progress.best_weights = self.progress.epoch, None
            self.progress.best = {"score": float(self.progress.epoch)}
        self.shipper.offer(self.progress)

    @property
    def shipped(self) -> float | None:
        """The epoch whose weights are in place."""
        path = self.setup.job.places.model / "model.pth"
        return float(torch.load(path, weights_only=True)["weight"][0]) if path.exists() else None

    @property
    def newest(self) -> float:
        return float(self.setup.network.weight.detach()[0])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return set_up(tmp_path_factory.mktemp("shared"), architecture="squeezenet1_1", image_size=32)[0]


@pytest.fixture
def setup(shared: Setup, tmp_path: Path) -> Setup:
    places = replace(shared.job.places, model=tmp_path / "model", checkpoints=tmp_path / "job", code=ROOT / "training")
    return replace(shared, job=replace(shared.job, places=places), warnings=[])


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_of_long_epochs_every_better_one_is_in_place(setup: Setup) -> None:
    """Where judging costs little beside an epoch, the model, manifest and evaluation follow each improvement."""
    training = Training(setup, seconds=1.0)
    for better in (True, True, False, True):
        training.run_epoch(100.0, better=better)
        assert training.shipped == training.progress.best_epoch
        assert read(setup.job.places.model / "manifest.json")["metrics"]["test"]["images"] == len(setup.dataset.test)
        evaluation = read(setup.job.places.checkpoints / "evaluation.json")
        assert not evaluation["finished"]
        assert f"after {training.progress.best_epoch} of 3 epochs" in evaluation["warnings"][0]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    epochs=st.lists(st.tuples(st.floats(0.01, 60), st.booleans()), min_size=1, max_size=25), seconds=st.floats(0.01, 9)
)
def test_shipping_takes_at_most_its_share(setup: Setup, epochs: list[tuple[float, bool]], seconds: float) -> None:
    """Whatever epochs and judging take, at most 5 % of the time so far goes into models that are not the last."""
    training = Training(setup, seconds=seconds)
    for number, (length, better) in enumerate(epochs):
        training.run_epoch(length, better=better or number == 0)
        assert training.shipper.spent <= SHARE * training.time.now + 1e-9


def test_a_best_epoch_that_came_too_soon_is_caught_up(setup: Setup) -> None:
    """Of short epochs the best is shipped when it may be, with its own weights, and the training goes on with its."""
    training = Training(setup, seconds=1.0)
    training.run_epoch(5.0)
    assert training.shipped is None
    for _ in range(10):
        training.run_epoch(5.0, better=False)
    assert training.shipped == 1.0
    assert training.newest == 11.0


def test_what_is_in_place_is_not_judged_again(setup: Setup) -> None:
    """At the end the best epoch's weights are judged only if they are not in place; its validation never twice."""
    training = Training(setup, seconds=1.0)
    training.run_epoch(100.0)
    training.shipper.finish(training.progress, finished=True)
    assert training.judged == ["valid", "test"]
    evaluation = read(setup.job.places.checkpoints / "evaluation.json")
    assert evaluation["finished"]
    assert evaluation["warnings"] == read(setup.job.places.model / "manifest.json")["warnings"] == []


def test_a_network_is_judged_in_the_precision_of_the_endpoint() -> None:
    """A training in half precision is judged in single precision: report and temperature are of what is served."""
    network, inputs = nn.Linear(40, 3), torch.randn(7, 40)
    rates = {"rate": 1.0, "weight_decay": 0.0, "steps": 5}
    learner = Learner(network, **rates, device=torch.device("cpu"), precision=torch.bfloat16)
    assert torch.equal(learner.judge([inputs]), network(inputs))


def test_the_end_always_ships(setup: Setup) -> None:
    """A training too short for its share is shipped when it ends."""
    training = Training(setup, seconds=9.0)
    training.run_epoch(0.1)
    assert training.shipped is None
    training.shipper.finish(training.progress, finished=True)
    assert training.shipped == 1.0


def test_closing_is_estimated_before_anything_was_judged(setup: Setup) -> None:
    """From the steps at first, which take longer for an image than judging; then from what judging took."""
    training = Training(setup, seconds=3.0)
    progress = training.progress
    progress.totals.images, progress.totals.seconds = 10, 5.0
    images = len(setup.dataset.valid) + len(setup.dataset.test)
    assert training.shipper.estimate_closing(progress) >= 0.5 * images
    training.run_epoch(1.0)
    assert 2 * (3.0 + 3.0) <= training.shipper.estimate_closing(progress) < 0.5 * images
