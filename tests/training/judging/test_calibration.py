"""Tests of the temperature that the endpoint divides logits by: taken only where it helps, and never far from 1."""

from __future__ import annotations

from statistics import fmean

import pytest
import torch
from judging.evaluate import TEMPERATURES, calibrate, choose_temperature, fit_temperature, losses


def draw(images: int, seed: int, classes: int = 3, spread: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose probabilities are the truth, and labels drawn from them."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, classes, generator=generator) * spread
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]


def test_overconfidence_is_found_and_served() -> None:
    """Logits three times too large give a temperature near three, at which the calibration error shrinks."""
    logits, labels = draw(4000, 0)
    temperature = choose_temperature(3 * logits, labels)
    assert temperature == pytest.approx(3, rel=0.1)
    account = calibrate(3 * logits, labels, temperature)
    assert account["ece_at_temperature"] < 0.03 < account["ece"]
    assert sum(row["images"] for row in account["bins"]) == 4000
    at_one = [(row["confidence"], row["accuracy"]) for row in calibrate(logits, labels, 1.0)["bins"]]
    assert fmean(abs(said - right) for said, right in at_one) < 0.1


@pytest.mark.parametrize(("factor", "end"), [(100.0, TEMPERATURES[1]), (0.01, TEMPERATURES[0])])
def test_a_temperature_stays_within_its_bounds(factor: float, end: float) -> None:
    """However wrong confidence is, logits are divided by 5 at most and doubled at most."""
    logits, labels = draw(400, 1)
    assert choose_temperature(factor * logits, labels) == pytest.approx(end, rel=0.01)


def test_fewer_than_fifty_images_choose_nothing() -> None:
    """They cannot tell, however wrong confidence is."""
    logits, labels = draw(50, 2)
    assert choose_temperature(10 * logits[:49], labels[:49]) == 1.0
    assert choose_temperature(10 * logits, labels) > 1.0


def test_honest_confidence_is_left_alone() -> None:
    """Where a temperature helps by chance alone it is hardly ever taken."""
    chosen = [choose_temperature(*draw(100, seed)) for seed in range(40)]
    assert sum(temperature != 1.0 for temperature in chosen) <= 10


@pytest.mark.parametrize("images", [60, 200])
def test_new_images_are_not_judged_worse_for_it(images: int) -> None:
    """A model that is right on all of its few validation images is not made sure of itself: new images would pay."""
    worse = []
    for seed in range(20):
        logits, labels = draw(images, seed, spread=6.0)
        right = logits.argmax(1) == labels
        temperature = choose_temperature(logits[right][:images], labels[right][:images])
        fresh, truth = draw(2000, 1000 + seed, spread=6.0)
        worse.append(float(losses(fresh / temperature, truth).mean() / losses(fresh, truth).mean()))
    assert max(worse) < 2.5
    assert TEMPERATURES[0] >= 0.5


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_diverged_model_has_a_temperature_of_one(broken: float) -> None:
    """Nothing can be chosen from logits that are no numbers."""
    logits, labels = draw(100, 3)
    assert choose_temperature(torch.full_like(logits, broken), labels) == 1.0


def test_the_fit_is_the_best_of_a_grid() -> None:
    """The search finds the least loss within its bounds."""
    logits, labels = draw(300, 4)
    fitted = fit_temperature(2 * logits, labels)
    grid = [0.5 * 1.02**step for step in range(117)]
    best = min(grid, key=lambda temperature: float(losses(2 * logits / temperature, labels).mean()))
    assert fitted == pytest.approx(best, rel=0.03)
