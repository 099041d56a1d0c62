"""Measure how many wrong labels are found, and how many right ones accused: scanned digits with 5 % of them flipped.

A flipped digit gets the label of the class that its own is confused with most, as a tired person would. Pixels are the
features, as they are where there are no pretrained weights. Ten times for each number of images.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.results import claim, write_result

sys.path.append(str(Path(__file__).parents[2] / "training"))

import numpy as np
import torch
from judging.labels import find_doubts
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

SHARE, REPETITIONS = 0.05, 10
SIZES = (600, 1000, 1600)


def find_confusable() -> dict[int, int]:
    """Return for each digit the one that a plain classifier takes it for most often."""
    digits = load_digits()
    said = cross_val_predict(LogisticRegression(C=1.0, max_iter=500), digits.data / 16, digits.target, cv=3)
    table = np.zeros((10, 10), dtype=int)
    np.add.at(table, (digits.target, said), 1)
    np.fill_diagonal(table, 0)
    return {label: int(table[label].argmax()) for label in range(10)}


def flip(labels: np.ndarray, confusable: dict[int, int], rng: np.random.Generator) -> set[int]:
    """Give a share of the images another label, in place. Return which."""
    chosen = rng.choice(len(labels), round(SHARE * len(labels)), replace=False)
    for number in chosen:
        labels[number] = confusable[int(labels[number])]
    return set(chosen.tolist())


def measure(images: int, seed: int, confusable: dict[int, int]) -> tuple[int, int, int]:
    """Return (flipped labels found, labels accused, labels flipped)."""
    rng, digits = np.random.default_rng(seed), load_digits()
    order = rng.permutation(len(digits.target))[:images]
    labels = digits.target[order].copy()
    flipped = flip(labels, confusable, rng)
    features = torch.tensor(digits.data[order] / 16, dtype=torch.float32)
    accused = {doubt.number for doubt in find_doubts(features, torch.tensor(labels), list(range(images)))}
    return len(accused & flipped), len(accused), len(flipped)


def main() -> None:
    torch.set_num_threads(1)
    confusable, claims = find_confusable(), []
    for images in SIZES:
        found = [measure(images, seed, confusable) for seed in range(REPETITIONS)]
        right, accused, flipped = (sum(each) for each in zip(*found, strict=True))
        text = f"{images} digits, 5 % of the labels flipped, {REPETITIONS} times: "
        claims.append(claim(text + "of the accused labels are wrong", right / accused, "share", at_least=0.8))
        claims.append(claim(text + "of the wrong labels are found", right / flipped, "share", at_least=0.65))
    write_result("labels", claims, ["torch", "scikit-learn"])


if __name__ == "__main__":
    main()
