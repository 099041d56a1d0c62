"""Tests of what is done about classes of very different size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from images.data import Batches, draw_all
from judging.deciding.imbalance import (
    AdjustedLoss,
    choose_imbalance,
    count_classes,
    draw_balanced,
    make_criterion,
    make_fitting_criterion,
    measure_imbalance,
)
from judging.evaluate import measure
from learning.engine import Learner
from learning.features import fit_head
from sklearn.datasets import load_digits
from torch import nn

CPU = torch.device("cpu")
COUNTS = (200, 80, 40, 20)  # 10 to 1
Examples = tuple[torch.Tensor, torch.Tensor]


def draw_clouds(counts: tuple[int, ...], seed: int, spread: float) -> Examples:
    """Overlapping clouds of points around the corners of a simplex."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return 2.0 * nn.functional.one_hot(labels, 16) + spread * torch.randn(len(labels), 16, generator=generator), labels


def draw_rays(counts: tuple[int, ...], seed: int, spread: float) -> Examples:
    """Neighbouring directions, so that each class is confused with the next one."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    angles = labels * 0.6 + 0.3 * spread * torch.randn(len(labels), generator=generator)
    lengths = 2 + torch.rand(len(labels), generator=generator)
    return torch.stack([lengths * angles.cos(), lengths * angles.sin()], 1), labels


def draw_digits(counts: tuple[int, ...], seed: int, spread: float) -> Examples:
    """Scanned 3, 5, 8 and 9, which are like one another, with noise; some images for training, others for test."""
    digits = load_digits()
    pixels, told = torch.tensor(digits.data / 16).float(), torch.tensor(digits.target)
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randperm(len(told), generator=torch.Generator().manual_seed(seed // 2))
    rows = [mixed[told[mixed] == digit] for digit in (3, 5, 8, 9)]
    kept = [row[:count] if seed % 2 == 0 else row[-count:] for row, count in zip(rows, counts, strict=True)]
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor([len(row) for row in kept]))
    noise = spread * torch.randn(len(labels), 64, generator=generator)
    return pixels[torch.cat(kept)] + noise, labels


SETS = {
    "clouds": (draw_clouds, COUNTS, 1.0),
    "rays": (draw_rays, COUNTS, 1.0),
    "digits": (draw_digits, (100, 40, 20, 10), 0.5),
}


def train_steps(train: Examples, imbalance: str, seed: int) -> nn.Linear:
    """Train a linear head by the training loop's own parts."""
    inputs, labels = train
    counts = count_classes(labels, 4)
    torch.manual_seed(seed)
    head = nn.Linear(inputs.shape[1], 4)
    order = draw_balanced if imbalance == "sample" else draw_all
    own = Batches(inputs.__getitem__, labels, lambda batch, _: batch, batch_size=32, seed=seed, device=CPU, order=order)
    criterion = make_criterion(imbalance, counts)
    learner = Learner(head, rate=0.03, weight_decay=0.01, steps=8 * own.steps, device=CPU, criterion=criterion)
    for epoch in range(1, 9):
        for batch, told in own.of_epoch(epoch):
            learner.learn(batch, told)
    return head


def fit(train: Examples, imbalance: str, _: int) -> nn.Linear:
    inputs, labels = train
    head = nn.Linear(inputs.shape[1], 4)
    fit_head(head, inputs, labels, criterion=make_fitting_criterion(imbalance, count_classes(labels, 4)))
    return head


@pytest.mark.parametrize(("way", "recall", "score"), [(train_steps, 0.1, 0.04), (fit, 0.04, 0.01)])
@pytest.mark.parametrize("taken", ["adjust", "sample"])
@pytest.mark.parametrize("name", SETS)
def test_small_classes_are_found_again(name: str, taken: str, way: Any, recall: float, score: float) -> None:
    """At 10 to 1 both ways raise the lowest recall and macro F1, in steps and in one fit, on every kind of set."""
    draw, counts, spread = SETS[name]
    gains = []
    for seed in range(0, 6, 2):
        train, test = draw(counts, seed, spread), draw((80, 80, 80, 80), seed + 1, spread)
        one, other = (measure(way(train, each, seed)(test[0]).detach(), test[1]) for each in (taken, "none"))
        gains.append([one[name] - other[name] for name in ("lowest_recall", "macro_f1")])
    lowest, macro_f1 = torch.tensor(gains).mean(0).tolist()
    assert lowest > recall
    assert macro_f1 > score


@pytest.mark.parametrize(
    ("wish", "counts", "taken"),
    [
        ("auto", [30, 10], "adjust"),
        ("auto", [29, 10], "none"),
        ("auto", [100, 50, 10], "adjust"),
        ("none", [100, 1], "none"),
        ("sample", [10, 10], "sample"),
    ],
)
def test_the_counts_decide_unless_the_recipe_does(wish: str, counts: list[int], taken: str) -> None:
    """From 3 to 1 on the logits are adjusted."""
    assert choose_imbalance(wish, torch.tensor(counts)) == taken


def test_the_ratio_is_of_the_largest_to_the_smallest() -> None:
    """Classes are counted by their labels."""
    assert measure_imbalance(count_classes(torch.tensor([0] * 12 + [1] * 3), 2)) == 4.0


def test_equal_classes_need_no_adjustment() -> None:
    """The loss is then plain cross-entropy: adding one number to all logits changes nothing."""
    logits, labels = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 4
    adjusted = AdjustedLoss(torch.tensor([5, 5, 5, 5]))(logits, labels)
    assert adjusted == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), abs=1e-6)


@given(st.lists(st.integers(1, 40), min_size=2, max_size=6), st.integers(0, 99))
def test_a_balanced_epoch_shows_every_class_equally_often(counts: list[int], seed: int) -> None:
    """It is as long as a plain one, and no image comes again before all others of its class have been shown."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    drawn = draw_balanced(labels, torch.Generator().manual_seed(seed))
    shown = torch.bincount(labels[drawn], minlength=len(counts))
    assert len(drawn) == len(labels)
    share = -(-len(labels) // len(counts))
    assert int(shown.max()) <= share
    assert int(shown.sum()) == len(labels)
    each = torch.bincount(drawn, minlength=len(labels))
    for label, count in enumerate(counts):
        assert int(each[labels == label].max()) <= -(-share // count)
