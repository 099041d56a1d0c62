"""The record of each image's prediction, and the choice of images for people to look at."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from images.data import read_dataset
from judging.intervals import find_interval
from judging.predictions import describe_predictions, show_pictures
from judging.suspects import Judged, find_mistakes, find_suspects, list_judged
from report.charts.choices import (
    count_tail,
    count_tied,
    find_pairs,
    find_weak,
    rank_importance,
)
from report.charts.matrix import cut_matrix, list_cells, pick_confused
from scipy.stats import binom

from tests.training.tiny import SHAPES, Runner

POWERS = np.linspace(-1, 1, 24)


def make(number: int, label: int, predicted: int, probability: float, given: float) -> Judged:
    return Judged("test", number, f"test/{label}/{number}.png", label, predicted, probability, given)


def test_the_columns_tell_of_each_image(trained: Runner) -> None:
    """File, label, prediction, and the probabilities of both at the temperature, in the order of the images."""
    data = read_dataset(trained.channel / "dataset.zip", 16, threads=1, scratch=trained.base)
    logits = torch.randn(len(data.test), 3, generator=torch.Generator().manual_seed(0))
    told = json.loads(json.dumps(describe_predictions(data, {"test": logits}, temperature=2.0)))
    assert told["classes"] == list(SHAPES)
    assert told["train"]["counts"] == [16, 16, 16]
    for image in list_judged(told):
        assert image.file.split("/")[:2] == ["test", SHAPES[image.label]]
        likely = (logits[image.number] / 2).softmax(0)
        assert (image.predicted, image.label) == (int(likely.argmax()), int(data.test.labels[image.number]))
        assert image.probability == pytest.approx(float(likely.max()), abs=1e-4)
        assert image.given == pytest.approx(float(likely[image.label]), abs=1e-4)


def test_the_pictures_are_those_of_the_cache(trained: Runner) -> None:
    """The images equal, by number, those that the network was given."""
    data = read_dataset(trained.channel / "dataset.zip", 16, threads=1, scratch=trained.base)
    picture = show_pictures(data)("test", 3)
    assert picture.size == (16, 16)
    assert (np.asarray(picture) == data.test.images(torch.tensor([3]))[0].permute(1, 2, 0).numpy()).all()


def test_the_worst_mistakes_come_first() -> None:
    """The most confident mistakes against the least probable label come first; right answers never count."""
    images = [make(0, 0, 0, 0.9, 0.9), make(1, 0, 1, 0.6, 0.3), make(2, 0, 1, 0.99, 0.01), make(3, 1, 0, 0.5, 0.4)]
    assert [image.number for image in find_mistakes(images, 2)] == [2, 1]


def test_a_label_looks_wrong_where_the_model_is_as_sure_as_it_is_of_right_ones() -> None:
    """One unsure mistake is no reason to doubt a label; one as clear as the rest of its class is."""
    right = [make(number, number % 2, number % 2, 0.9, 0.9) for number in range(20)]
    unsure, clear = make(20, 0, 1, 0.55, 0.4), make(21, 0, 1, 0.97, 0.02)
    assert find_suspects([*right, unsure, clear], 9) == [clear]


def test_confused_pairs_come_with_examples() -> None:
    """Each pair has its count, the class's images, the images that were confused, and a typical one of the other."""
    images = [make(0, 0, 1, 0.6, 0.3), make(1, 0, 1, 0.9, 0.1), make(2, 1, 1, 0.8, 0.8), make(3, 1, 1, 0.99, 0.99)]
    first, second = find_pairs([[0, 2, 0], [0, 2, 0], [1, 0, 5]], images, 1)
    assert (first.label, first.predicted, first.count, first.images, first.missed) == (0, 1, 2, 2, True)
    assert [image.number for image in first.examples] == [1]
    assert first.typical == images[3]
    assert (second.label, second.predicted, second.examples, second.typical) == (2, 0, [], None)


@given(st.integers(2, 6), st.data())
def test_pairs_rank_by_what_is_worst_for_a_class(count: int, data: st.DataObject) -> None:
    """A class with no right answer comes before every other, a higher share before a lower, a tie by its count."""
    row = st.lists(st.integers(0, 9), min_size=count, max_size=count)
    confusion = data.draw(st.lists(row, min_size=count, max_size=count))
    pairs = find_pairs(confusion, [], 0)
    assert len(pairs) == sum(bool(n) for y, each in enumerate(confusion) for x, n in enumerate(each) if x != y)
    for one, other in itertools.pairwise(pairs):
        assert one.missed >= other.missed
        if one.missed == other.missed:
            assert (one.count / one.images, one.count) >= (other.count / other.images, other.count)


def test_the_astronaut_comes_before_the_fives_and_ties_are_counted() -> None:
    """0 of 3 right is worse than 9 of 40 confused; two equal pairs tie wherever the list is cut."""
    pairs = find_pairs([[0, 2, 1, 0], [0, 31, 9, 0], [0, 1, 9, 0], [1, 0, 0, 9]], [], 0)
    assert [(pair.label, pair.predicted) for pair in pairs] == [(0, 1), (0, 2), (1, 2), (2, 1), (3, 0)]
    assert [count_tied(pairs, shown) for shown in (3, 4, 5)] == [0, 1, 0]


def test_a_class_is_weak_only_beyond_chance() -> None:
    """0 of 1 may be luck; 10 of 40 where 90 % are right is not; one without images is never named."""
    recalls = {"few": (0.0, 1), "low": (0.25, 40), "fine": (0.92, 400), "none": (None, 0)}
    rows = [{"class": name, "recall": recall, "support": held} for name, (recall, held) in recalls.items()]
    assert [row["class"] for row in find_weak(rows, 0.9)] == ["low"]


@given(st.integers(1, 3000), st.floats(0, 1), st.data())
def test_the_tail_is_scipys(images: int, accuracy: float, data: st.DataObject) -> None:
    """How likely at most so many right answers are, for few and for many images."""
    right = data.draw(st.integers(0, images))
    assert count_tail(right, images, accuracy) == pytest.approx(float(binom.cdf(right, images, accuracy)), abs=1e-7)


def test_among_many_equal_classes_none_is_called_weak() -> None:
    """In a hundred sets of 133 equally good classes, at most five name one."""
    rng = np.random.default_rng(0)
    named = 0
    for _ in range(100):
        right = rng.binomial(6, 0.85, 133)
        rows = [{"class": str(n), "recall": hits / 6, "support": 6} for n, hits in enumerate(right.tolist())]
        named += bool(find_weak(rows, float(right.sum()) / 798))
    assert named <= 5


def test_the_hyperparameter_that_matters_is_found() -> None:
    """It works on a logarithmic scale with the best value inside; one that has no effect stays within chance."""
    chosen = [{"rate": float(10**power), "size": 16 * (1 + number % 2)} for number, power in enumerate(POWERS)]
    trials = [(each, 0.9 - 0.1 * float(np.log10(each["rate"])) ** 2) for each in chosen]
    first, second = rank_importance(trials, ["size", "rate"])
    assert (first.name, second.name) == ("rate", "size")
    assert first.share > 0.95 > first.chance
    assert second.share < second.chance


@pytest.mark.parametrize("goals", [[0.5, 0.6], [0.5, 0.5, 0.5]])
def test_nothing_is_said_of_importance_where_nothing_can_be(goals: list[float]) -> None:
    """Two trials, or trials with equal objectives, say nothing."""
    assert rank_importance([({"rate": float(number)}, goal) for number, goal in enumerate(goals, 1)], ["rate"]) == []


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_the_interval_holds_the_share(images: int, share: float) -> None:
    """It also stays within 0 and 1."""
    low, high = find_interval(share, images)
    assert 0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1


@given(st.integers(2, 12), st.data())
def test_the_matrix_shows_every_count(count: int, data: st.DataObject) -> None:
    """Each non-zero cell appears once; the excerpt keeps every class that takes part in a confusion."""
    row = st.lists(st.integers(0, 9), min_size=count, max_size=count)
    confusion = data.draw(st.lists(row, min_size=count, max_size=count))
    cells = list_cells(confusion)
    assert Counter((y, x) for y, x, _, _ in cells) == Counter(
        (y, x) for y, each in enumerate(confusion) for x, number in enumerate(each) if number
    )
    chosen = pick_confused(confusion, count)
    mixed = {place for y, x, _, _ in cells if y != x for place in (y, x)}
    assert set(chosen) == mixed
    assert cut_matrix(confusion, chosen) == [[confusion[y][x] for x in chosen] for y in chosen]
