"""Images of no class: the threshold keeps its promise, and methods are chosen and reported on different classes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from judging.unknown import (
    FEWEST,
    FEWEST_CLASSES,
    METHODS,
    choose_references,
    compare_methods,
    describe_unknown,
    divide_classes,
    find_threshold,
    measure_coverage,
    measure_separation,
    score,
)
from knowing import read_rule
from sklearn.metrics import roc_auc_score


def make_logits(count: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits of a fairly good classifier, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    return torch.randn(count, classes, generator=generator) + 4 * torch.eye(classes)[labels], labels


@pytest.mark.parametrize("images", [100, 139, 400])
@pytest.mark.parametrize("method", METHODS)
def test_at_most_a_twentieth_of_known_images_is_lost(images: int, method: str) -> None:
    """Over many validation splits new images like them are known in 95 % of the cases, and hardly more are."""
    train, labels = make_logits(200, 4, 0)
    references = choose_references(train, labels)
    shares = []
    for seed in range(1, 60):
        rule = describe_unknown(make_logits(images, 4, seed)[0], method, references)
        assert rule
        scores = score(method, make_logits(400, 4, 1000 + seed)[0], references)
        shares.append(float((scores >= rule["threshold"]).double().mean()))
    assert 0.945 < sum(shares) / len(shares) < 0.97


def test_of_few_images_nothing_is_called_unknown() -> None:
    """Below 100 validation images there is no threshold; at 100 its rank is the fifth."""
    scores = torch.arange(FEWEST, dtype=torch.float64)
    assert find_threshold(scores[1:]) is None
    assert find_threshold(scores) == 4.0
    assert describe_unknown(make_logits(FEWEST - 1, 3, 0)[0]) is None


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.lists(st.integers(-5, 5), min_size=1, max_size=30))
def test_the_auroc_is_scikit_learns(known: list[int], foreign: list[int]) -> None:
    """Ties count half."""
    found = measure_separation(torch.tensor(known, dtype=torch.float64), torch.tensor(foreign, dtype=torch.float64))
    expected = roc_auc_score([1] * len(known) + [0] * len(foreign), known + foreign)
    assert found["auroc"] == pytest.approx(expected)


@given(st.integers(FEWEST_CLASSES, 200))
def test_methods_are_chosen_on_other_classes_than_they_are_reported_on(classes: int) -> None:
    """No class is in both; each group leaves at least two classes to be known."""
    choosing, reporting = divide_classes(classes)
    assert sorted(label for group in [*choosing, *reporting] for label in group) == list(range(classes))
    assert all(1 <= len(group) <= classes - 2 for group in [*choosing, *reporting])


def fit(learnt: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits of a head that knows some classes: an image of another is as far from all of them."""
    centres = torch.eye(8)[list(learnt)]
    splits = []
    for seed in (1, 2):
        labels = torch.arange(160) % 8
        inputs = torch.eye(8)[labels] + 0.1 * torch.randn(160, 8, generator=torch.Generator().manual_seed(seed))
        splits.append(10 * inputs @ centres.T)
    return splits[0], splits[1]


def test_a_separable_case_is_separated() -> None:
    """Where unknown images give no large logit, the largest logit tells them nearly perfectly."""
    labels = torch.arange(160) % 8
    measured = compare_methods(fit, (labels, labels), 8)
    assert measured
    assert measured["auroc"] > 0.99
    assert measured["fpr_at_95"] < 0.05
    assert (measured["chosen_on"], measured["held_out"]) == (4, 4)
    assert set(measured["others"]) == set(METHODS)
    assert compare_methods(fit, (labels, labels), FEWEST_CLASSES - 1) is None


@pytest.mark.parametrize("method", METHODS)
def test_the_endpoint_judges_as_the_training_did(method: str) -> None:
    """The serving code gives every image the score and the verdict that the training measured."""
    train, labels = make_logits(200, 5, 0)
    references = choose_references(train, labels) if method == "neighbours" else None
    told = describe_unknown(make_logits(300, 5, 1)[0], method, references)
    rule = read_rule({"unknown": told})
    assert rule
    assert told
    logits = make_logits(300, 5, 2)[0] - 2
    expected = score(method, logits, references)
    assert [rule.score(each) for each in logits] == pytest.approx(expected.tolist())
    verdicts = [rule.judge(each, ["a", "b", "c", "d"]) for each in logits]
    assert [each["known"] for each in verdicts] == (expected >= told["threshold"]).tolist()
    assert {"known": False, "nearest": ["a", "b", "c"]} in verdicts


def test_coverage_has_its_interval() -> None:
    """19 of 20 known images: the share, and what it may be."""
    found = measure_coverage(torch.tensor([True] * 19 + [False]))
    assert found["share"] == 0.95
    assert found["low"] < 0.8 < 0.95 < found["high"]
