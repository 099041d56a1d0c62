"""Tests of turning training images at random: left out where directions are the classes, and only there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from images.augment import DRAWS, MORE_DRAWS, augment, augment_more
from job.settings import Hyperparameters
from judging.deciding.turning import decide_turning
from judging.settling.mirroring import make_varied
from judging.settling.turning import settle_turning
from learning.baseline import choose_defaults, make_default_setup
from learning.preparation import Setup, make_course, prepare
from PIL import Image, ImageDraw

from tests.training.judging.settling.drawing import draw_set, make_canvas
from tests.training.profiled import make_job
from tests.training.tiny import make_zip, png

COUNTS = {"train": 40, "valid": 15, "test": 4}
CHOSEN = {"image_size": 64, "pretrained": "none", "architecture": "resnet18", "batch_size": 16}


def draw_hand(degrees: int, rng: np.random.Generator) -> bytes:
    """A hand through the middle of a dial."""
    image, pen, colour = make_canvas(rng)
    across, down = (36 + rng.integers(-3, 4, 2)).tolist()
    angle = np.radians(degrees + rng.normal(0, 1.5))
    x, y = 30 * np.cos(angle), 30 * np.sin(angle)
    pen.line([(across - x, down - y), (across + x, down + y)], fill=colour, width=5)
    return png(image)


def draw_plate(label: int, rng: np.random.Generator) -> bytes:
    """A disc of a colour on a ground: the same however it is turned."""
    image = Image.new("RGB", (72, 72), tuple(int(each) for each in rng.integers(0, 80, 3)))
    colour, (across, down) = [30, 30, 30], rng.integers(24, 48, 2).tolist()
    colour[label] = int(rng.integers(180, 256))
    ImageDraw.Draw(image).ellipse([across - 16, down - 16, across + 16, down + 16], fill=tuple(colour))
    return png(image)


def draw_all(kind: str) -> bytes:
    """Return a zip of hands in directions twelve degrees apart, of plates, or of pets, seen from the side."""
    if kind == "pets":
        return draw_set("pets", COUNTS)
    rng = np.random.default_rng(0)
    draw, classes = {"hands": (draw_hand, (0, 12, 24)), "plates": (draw_plate, (0, 1, 2))}[kind]
    return make_zip(
        {
            f"{split}/{label:02}/{number:03}.png": draw(label, rng)
            for split, count in COUNTS.items()
            for label in classes
            for number in range(count)
        }
    )


def make_setup(folder: Path, kind: str, **chosen: str) -> Setup:
    """Return a setup whose backbone counts as pretrained."""
    found = prepare(make_job(folder, draw_all(kind)), Hyperparameters(**{**CHOSEN, **chosen}))
    return replace(found, pretrained="imagenet")


@pytest.mark.parametrize(("kind", "taken"), [("hands", False), ("plates", True), ("pets", True)])
def test_turning_is_left_out_where_it_makes_another_class(tmp_path: Path, kind: str, taken: bool) -> None:
    """Hands of a dial are not turned, other images are; the reason has its figures, and the same again."""
    setup = make_setup(tmp_path, kind)
    before = {name: value.clone() for name, value in setup.network.state_dict().items()}
    settled = settle_turning(setup)
    choice = settled.choices["rotation"]
    assert settled.turned == choice["taken"] == taken, choice
    assert f"{choice['turned']:.1%} against {choice['augmented']:.1%} on 45 validation images" in choice["why"]
    assert all(torch.equal(value, before[name]) for name, value in setup.network.state_dict().items())
    assert settle_turning(setup).choices["rotation"] == choice


def test_a_training_turns_as_was_decided(tmp_path: Path) -> None:
    """Batches of the same draws differ in their turn alone: without it, stripes along an edge stay along it."""
    setup = make_setup(tmp_path, "plates")
    turned, still = (
        next(iter(make_course(replace(setup, turned=wish)).batches.of_epoch(1)))[0] for wish in (True, False)
    )
    assert not torch.equal(turned, still)
    chance = torch.rand((8, DRAWS), generator=torch.Generator().manual_seed(0))
    stripes = (torch.arange(72) % 12 < 6).byte().mul(255).view(1, 1, 72, 1).expand(8, 3, 72, 72).contiguous()
    rows = augment(stripes, chance, size=64, flip=False, turn=False).std(dim=3)
    assert rows.max() < 1e-4
    assert augment(stripes, chance, size=64, flip=False).std(dim=3).max() > 0.1


def test_no_augmentation_turns_what_may_not_be_turned() -> None:
    """The trivial one shears and turns far too, but only where turning is allowed; it still shifts and relights."""
    chance = torch.full((11, MORE_DRAWS), 0.5)
    chance[:, 8], chance[:, 9] = (torch.arange(11) + 0.5) / 11, 0.9
    stripes = (torch.arange(72) % 12 < 6).byte().mul(255).view(1, 1, 72, 1).expand(11, 3, 72, 72)
    both = torch.cat([stripes, stripes.transpose(2, 3)])
    turned, still = (augment_more(both, chance.repeat(2, 1), size=64, flip=False, turn=wish) for wish in (True, False))
    bent, straight = (spread_along(images[:11], 3) + spread_along(images[11:], 2) for images in (turned, still))
    assert [number for number in range(11) if bent[number] > 1e-3] == [0, 1, 4]
    assert straight.max() < 1e-3
    assert not torch.equal(still[2], still[5])
    assert not torch.equal(still[6], still[5])


def spread_along(images: torch.Tensor, dim: int) -> torch.Tensor:
    """Return how much each image's lines differ from straight ones."""
    return images.std(dim=dim).amax(dim=(1, 2))


def test_nothing_is_measured_without_a_fitted_head(tmp_path: Path) -> None:
    """A training from scratch turns its images and says what to do; a head alone is trained on features."""
    setup = make_setup(tmp_path, "hands")
    scratch = settle_turning(replace(setup, pretrained="none"))
    assert scratch.turned
    assert "set `rotation` to false" in scratch.choices["rotation"]["why"]
    head = replace(setup, chosen=replace(setup.chosen, fine_tune="head"))
    assert settle_turning(head) == head


def test_the_baseline_of_a_head_alone_is_turned_as_its_own_training_would_be(tmp_path: Path) -> None:
    """It may train every layer, and says nothing of what is right where the recipe or the images forbid turning."""
    setup = make_setup(tmp_path, "hands")

    def is_turned(**chosen: Any) -> bool:
        settled = settle_turning(replace(setup, chosen=replace(setup.chosen, fine_tune="head", **chosen)))
        assert "rotation" not in settled.choices
        return make_default_setup(settled, choose_defaults(settled.chosen)).turned

    assert not is_turned(rotation="false")
    assert not is_turned(profile=True)
    assert is_turned(profile=True, rotation="true")
    assert is_turned(profile=True, baseline_depth="head")


def test_mirroring_is_compared_with_what_the_training_does(tmp_path: Path) -> None:
    """Where images are not turned, the head that learns from the other changes sees none that is turned either."""
    setup, rows = make_setup(tmp_path, "plates"), torch.arange(4)
    chance = torch.rand((4, DRAWS), generator=torch.Generator().manual_seed(0))
    levels: dict[str, Any] = {"mean": setup.inputs.mean, "std": setup.inputs.std, "size": 64}
    for turn in (True, False):
        generator = torch.Generator().manual_seed(0)
        varied = make_varied(replace(setup, turned=turn), setup.dataset.train, rows, generator)
        assert torch.equal(varied, augment(setup.dataset.train.images(rows), chance, flip=False, turn=turn, **levels))


@pytest.mark.parametrize(("kind", "wish"), [("hands", "true"), ("plates", "false")])
@pytest.mark.parametrize("weights", ["imagenet", "none"])
def test_the_recipe_overrules_what_would_be_measured(tmp_path: Path, kind: str, wish: str, weights: str) -> None:
    """`rotation` true or false decides by itself, from scratch too."""
    settled = settle_turning(replace(make_setup(tmp_path, kind, rotation=wish), pretrained=weights))
    assert settled.turned == (wish == "true")
    assert settled.choices["rotation"] == {"asked": wish, "taken": wish == "true", "why": "the recipe says so"}


@given(st.integers(8, 60), st.integers(2, 6), st.integers(0, 1000))
def test_a_head_that_knows_nothing_forbids_nothing(images: int, classes: int, seed: int) -> None:
    """Of answers that are no better than chance turning is never the cause; equal answers never forbid it."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    flat = torch.full((images, classes), 1 / classes)
    some = torch.rand((images, classes), generator=generator).softmax(1)
    assert decide_turning(some, flat, labels).taken
    assert decide_turning(some, some, labels).taken
