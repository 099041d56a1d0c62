"""Tests of the untuned baseline: what it measures, and what it must not change."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from learning.baseline import make_default_setup, measure_baseline
from learning.preparation import Setup

from tests.training.profiled import set_up

MEASURES = {"loss", "accuracy", "macro_precision", "macro_recall", "macro_f1"}


def weights(setup: Setup) -> list[float]:
    return [float(value.double().sum()) for value in setup.network.state_dict().values()]


@pytest.mark.parametrize(("pretrained", "kind"), [("none", "default_hyperparameters"), ("imagenet", "linear_head")])
def test_the_baseline_is_measured_and_kept(tmp_path: Path, pretrained: str, kind: str) -> None:
    """Valid and test are measured with default settings, and the tuned network is not touched."""
    setup, _ = set_up(tmp_path, epochs=6, learning_rate=9.0)
    setup = replace(setup, pretrained=pretrained)
    before = weights(setup)
    content = measure_baseline(setup, tmp_path / "job")
    assert content["kind"] == kind
    assert json.loads((tmp_path / "job/baseline.json").read_text()) == content
    assert set(content["valid"]) == set(content["test"]) == MEASURES
    assert all(0 <= content["test"][name] <= 1 for name in MEASURES - {"loss"})
    assert weights(setup) == before


def test_a_linear_head_learns_from_frozen_features(tmp_path: Path) -> None:
    """Even a random backbone's features separate bars, discs and rings better than chance."""
    setup, _ = set_up(tmp_path, image_size=32)
    content = measure_baseline(replace(setup, pretrained="imagenet"), tmp_path / "job")
    assert content["test"]["accuracy"] > 0.5


def test_the_defaults_are_those_of_an_untuned_training(tmp_path: Path) -> None:
    """Tuned hyperparameters return to their defaults, given ones stay, and a third of the epochs is run."""
    setup, _ = set_up(tmp_path, epochs=7, learning_rate=9.0, batch_size=8, weight_decay=0.1, objective="accuracy")
    chosen = make_default_setup(setup).chosen
    assert (chosen.learning_rate, chosen.batch_size, chosen.weight_decay, chosen.fine_tune) == (1.0, 32, 0.01, "all")
    assert (chosen.epochs, chosen.objective, chosen.image_size) == (3, "accuracy", 16)
    assert make_default_setup(setup).network is not setup.network


def test_a_stop_ends_the_baseline(tmp_path: Path) -> None:
    """A job that is asked to stop writes no baseline and is not delayed by one."""
    setup, _ = set_up(tmp_path)
    assert measure_baseline(setup, tmp_path / "job", stop_asked=lambda: True) is None
    assert not (tmp_path / "job").exists()


def test_a_baseline_can_be_repeated(tmp_path: Path) -> None:
    """The same data give the same baseline, whatever random numbers were drawn before."""
    setup, _ = set_up(tmp_path)
    first = measure_baseline(setup, tmp_path / "job")
    torch.rand(7)
    assert measure_baseline(setup, tmp_path / "job")["test"] == first["test"]
