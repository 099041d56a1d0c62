"""Tests of cross-validation: who judges whom, which L2 is chosen, and that it selects with less noise."""

from __future__ import annotations

from statistics import mean

import torch
from hypothesis import given
from hypothesis import strategies as st
from judging.deciding.folds import FOLDS, PENALTIES, choose_penalty, make_folds, predict
from judging.deciding.heads import PENALTY
from judging.evaluate import measure
from torch import nn

from tests.training.judging.deciding.test_imbalance import draw_clouds, draw_digits, draw_rays

PLAIN = nn.CrossEntropyLoss()
# Sets, and examples of each class in train and validation together; a quarter of them is validation.
SETS = {"clouds": (draw_clouds, 24, 1.0), "rays": (draw_rays, 24, 1.0), "digits": (draw_digits, 24, 0.5)}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=10, max_size=60))
def test_a_group_never_judges_itself(images: list[tuple[int, int]]) -> None:
    """All images of a group are in one fold, and no fold has more than the others but for the size of a group."""
    groups = [bytes([group]) for _, group in images]
    places = make_folds(groups, [label for label, _ in images]).tolist()
    assert all(len({place for place, own in zip(places, groups, strict=True) if own == group}) == 1 for group in groups)
    assert set(places) <= set(range(FOLDS))


def test_every_class_is_spread_over_the_folds() -> None:
    """Ten images of each of four classes give two of each to every fold, and always the same ones."""
    labels = [number % 4 for number in range(40)]
    groups = [bytes([number]) for number in range(40)]
    places = make_folds(groups, labels)
    assert torch.equal(places, make_folds(groups, labels))
    for fold in range(FOLDS):
        held = [label for label, place in zip(labels, places.tolist(), strict=True) if place == fold]
        assert sorted(held) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_copies_would_flatter() -> None:
    """With each image there twice and random labels, folds that keep copies together are right by chance alone."""
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(60, 40, generator=generator).repeat(2, 1), (torch.arange(60) % 2).repeat(2)
    told = [bytes([number % 60]) for number in range(120)]
    alone = [bytes([number]) for number in range(120)]
    honest, flattered = (
        measure(predict(features, labels, make_folds(each, labels.tolist()), 1e-5, PLAIN), labels)["accuracy"]
        for each in (told, alone)
    )
    assert honest < 0.55
    assert flattered > 0.7


def test_cross_validation_claims_less_than_a_small_split() -> None:
    """Over many draws of three sets, what folds say of the L2 that they choose is nearer to what new images show.

    And what they choose is no worse.
    """
    errors: dict[str, list[float]] = {"split": [], "folds": []}
    reached: dict[str, list[float]] = {"split": [], "folds": []}
    for draw, count, spread in SETS.values():
        for seed in range(0, 14, 2):
            features, labels = draw((count,) * 4, seed, spread)
            new, new_labels = draw((70,) * 4, seed + 1, spread)
            places = make_folds([bytes([number]) for number in range(len(labels))], labels.tolist())
            valid = torch.arange(len(labels)) % 4 == 0
            said: dict[str, dict[float, float]] = {"split": {}, "folds": {}}
            true = {}
            for penalty in (1e-3, 1e-1):
                head = nn.Linear(features.shape[1], 4)
                said["split"][penalty] = predict_apart(head, features, labels, valid, penalty)
                true[penalty] = measure(head(new).detach(), new_labels)["accuracy"]
                folded = predict(features, labels, places, penalty, PLAIN)
                said["folds"][penalty] = measure(folded, labels)["accuracy"]
            for way, values in said.items():
                best = max(values, key=values.__getitem__)
                errors[way].append(abs(values[best] - true[best]))
                reached[way].append(true[best])
    assert mean(errors["folds"]) < 0.8 * mean(errors["split"])
    assert mean(reached["folds"]) >= mean(reached["split"]) - 0.01


def predict_apart(
    head: nn.Linear, features: torch.Tensor, labels: torch.Tensor, valid: torch.Tensor, penalty: float
) -> float:
    """Fit the head to what is not validation, and return its accuracy there."""
    from judging.deciding.heads import fit_head

    fit_head(head, features[~valid], labels[~valid], penalty=penalty)
    return measure(head(features[valid]).detach(), labels[valid])["accuracy"]


def test_the_penalty_follows_the_data() -> None:
    """Many noisy features of few images need a strong one, a clear set leaves the usual one, and it is repeatable."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(80) % 2
    noisy = torch.randn(80, 300, generator=generator)
    noisy[:, 0] += 2.0 * labels
    places = make_folds([bytes([number]) for number in range(80)], labels.tolist())
    found = choose_penalty(noisy, labels, places, PLAIN, seed=0)
    assert found.taken > PENALTY
    assert found == choose_penalty(noisy, labels, places, PLAIN, seed=0)
    assert set(found.losses) == set(PENALTIES)
    weak = torch.randn(80, 4, generator=generator)  # nothing to learn: no penalty is clearly better than the others
    assert choose_penalty(weak, labels, places, PLAIN, seed=0).taken in PENALTIES
