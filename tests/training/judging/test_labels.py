"""Labels that look wrong: found out of fold, whatever copies an image has, and only ranked where little is known."""

from __future__ import annotations

import numpy as np
import torch
from judging.labels import FEWEST, FOLDS, deal_out, find_doubts
from sklearn.datasets import load_digits

CONFUSABLE = (6, 8, 1, 9, 1, 9, 5, 9, 1, 3)


def flip_digits(images: int, seed: int, share: float = 0.05) -> tuple[torch.Tensor, torch.Tensor, set[int]]:
    """Return the pixels of digits, their labels of which a share is flipped, and the numbers of those."""
    rng, digits = np.random.default_rng(seed), load_digits()
    order = rng.permutation(len(digits.target))[:images]
    labels = digits.target[order].copy()
    flipped = rng.choice(images, round(share * images), replace=False)
    labels[flipped] = [CONFUSABLE[label] for label in labels[flipped]]
    return torch.tensor(digits.data[order] / 16, dtype=torch.float32), torch.tensor(labels), set(flipped.tolist())


def test_flipped_labels_are_found_and_few_others_accused() -> None:
    """Of 5 % flipped labels among 600 digits two thirds are found; four of five that are named are wrong."""
    right = accused = wrong = 0
    for seed in range(2):
        features, labels, flipped = flip_digits(600, seed)
        found = {doubt.number for doubt in find_doubts(features, labels, range(600)) if doubt.sure}
        right, accused, wrong = right + len(found & flipped), accused + len(found), wrong + len(flipped)
    assert right / accused >= 0.8, (right, accused, wrong)
    assert right / wrong >= 0.65, (right, accused, wrong)


def test_a_copy_does_not_confirm_a_wrong_label() -> None:
    """Two equal images with the same wrong label share a fold, and both are found."""
    features, labels, flipped = flip_digits(400, 3)
    alone = {doubt.number for doubt in find_doubts(features, labels, range(400))} & flipped
    doubled = find_doubts(features.repeat(2, 1), labels.repeat(2), [*range(400)] * 2)
    found = {doubt.number for doubt in doubled}
    assert len(alone) > len(flipped) / 2
    assert len({number for number in alone if {number, number + 400} <= found}) >= 0.8 * len(alone)


def test_groups_share_a_fold_and_folds_are_even() -> None:
    """Every image of a group lies in the same fold; each fold has about as many groups."""
    groups = [f"burst {number // 3}" for number in range(300)]
    folds = deal_out(groups)
    assert all(len(set(folds[start : start + 3].tolist())) == 1 for start in range(0, 300, 3))
    assert folds.bincount(minlength=FOLDS).tolist() == [60] * FOLDS


def test_of_few_images_there_is_only_a_ranking() -> None:
    """Below the least number of images nothing is called wrong, and the most doubtful come first."""
    features, labels, _ = flip_digits(FEWEST - 1, 0)
    doubts = find_doubts(features, labels, range(FEWEST - 1))
    assert 0 < len(doubts) <= 6
    assert not any(doubt.sure for doubt in doubts)
    margins = [doubt.margin for doubt in doubts]
    assert margins == sorted(margins, reverse=True)


def test_features_that_tell_nothing_accuse_nobody() -> None:
    """On noise every answer is wrong, so no label is called so."""
    features = torch.randn(400, 20, generator=torch.Generator().manual_seed(0))
    assert not any(doubt.sure for doubt in find_doubts(features, torch.arange(400) % 4, range(400)))


def test_clean_labels_are_left_alone() -> None:
    """Where classes are far apart and every label is right, no image is named."""
    centres = 5 * torch.eye(4).repeat(100, 1)
    features = centres + 0.3 * torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    assert find_doubts(features, torch.arange(400) % 4, range(400)) == []
