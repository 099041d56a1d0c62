"""Tests of `horizontal_flip`: measured on the job's own images, and harmless where it is wrong."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from job.settings import Hyperparameters
from judging.settling.mirroring import settle_mirroring
from learning.preparation import prepare
from program import run

from tests.training.judging.settling.drawing import DIRECTED, EVEN, draw_set
from tests.training.profiled import make_job
from tests.training.tiny import ROOT

COUNTS = {"train": 60, "valid": 30, "test": 30}
CHOSEN = {"image_size": 32, "epochs": 8, "pretrained": "none", "batch_size": 16}


class Never:
    """A stop that nobody asks for."""

    def __call__(self) -> bool:
        return False

    def defer(self) -> None:
        """Nothing is waiting."""


def settle(folder: Path, content: bytes | None, **chosen: Any) -> dict[str, Any]:
    """Return what is decided about mirroring."""
    setup = settle_mirroring(prepare(make_job(folder, content), Hyperparameters(**{**CHOSEN, **chosen})))
    choice: dict[str, Any] = setup.choices["horizontal_flip"]
    assert setup.chosen.horizontal_flip == str(choice["taken"]).lower()
    return choice


@pytest.mark.parametrize("name", [*DIRECTED, *EVEN])
def test_mirroring_is_measured(tmp_path: Path, name: str) -> None:
    """Sets whose mirror images are of another class are not mirrored, others are."""
    content = draw_set(name, COUNTS)
    choice = settle(tmp_path, content)
    assert choice["taken"] == (name in EVEN), choice
    assert choice["images"] == 30 * len({**DIRECTED, **EVEN}[name][1])
    assert settle(tmp_path, content) == choice


def test_measuring_leaves_no_trace(tmp_path: Path) -> None:
    """Neither weights nor statistics of the network change, so that a training is the same with and without."""
    setup = prepare(make_job(tmp_path, draw_set("figures", COUNTS)), Hyperparameters(**CHOSEN))
    before = {name: value.clone() for name, value in setup.network.state_dict().items()}
    settle_mirroring(setup)
    assert all(torch.equal(value, before[name]) for name, value in setup.network.state_dict().items())


@pytest.mark.parametrize(
    ("wish", "more", "taken", "why"),
    [
        ("true", {}, True, "the recipe says so"),
        ("false", {}, False, "the recipe says so"),
        ("auto", {}, False, "small or grey"),
    ],
)
def test_what_needs_no_measuring(tmp_path: Path, wish: str, more: dict[str, str], taken: bool, why: str) -> None:
    """The recipe decides, and small grey images are never mirrored by themselves."""
    choice = settle(tmp_path, None, horizontal_flip=wish, image_size=16, **more)
    assert choice["taken"] == taken
    assert why in choice["why"]
    assert "mirrored" not in choice


def test_arrows_are_told_apart_by_default(tmp_path: Path) -> None:
    """By default left and right arrows are learnt; mirrored, they are as good as guessed. The evaluation says why."""
    reached = {}
    for wish in ("auto", "true"):
        job = make_job(tmp_path / wish, draw_set("arrows", COUNTS))
        job = replace(job, places=replace(job.places, code=ROOT / "training"))
        run(job, Hyperparameters(**{**CHOSEN, "horizontal_flip": wish}), Never(), begun=time.time())
        found = json.loads((job.places.checkpoints / "evaluation.json").read_text())
        manifest = json.loads((job.places.model / "manifest.json").read_text())
        assert found["choices"] == manifest["choices"]
        assert found["choices"]["horizontal_flip"]["taken"] == (wish == "true")
        reached[wish] = found["test"]["accuracy"]
    assert reached["auto"] >= reached["true"] + 0.2
