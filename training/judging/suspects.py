"""Choose the images whose answers a person should look at: worst mistakes, and labels that look wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Judged:
    """One image: its split and its number there, its file's name, class numbers, and two probabilities."""

    split: str
    number: int
    file: str
    label: int
    predicted: int
    probability: float
    given: float


def list_judged(predictions: Mapping[str, Any], splits: Sequence[str] = ("test",)) -> list[Judged]:
    """Read the images of some splits from predictions.json."""
    names = ("files", "labels", "predicted", "probability", "given")
    return [
        Judged(split, number, *row)
        for split in splits
        if split in predictions
        for number, row in enumerate(zip(*(predictions[split][name] for name in names), strict=True))
    ]


def find_mistakes(images: Sequence[Judged], count: int) -> list[Judged]:
    """Find the wrong answers given with the highest confidence."""
    wrong = [image for image in images if image.predicted != image.label]
    return sorted(wrong, key=lambda image: (image.given - image.probability, image.split, image.number))[:count]


def find_suspects(images: Sequence[Judged], count: int) -> list[Judged]:
    """Find images whose label looks wrong, by confident learning (Northcutt et al. 2021), the clearest first.

    An image is suspect if the predicted class is at least as probable as it usually is for images labelled with it,
    while the image's own label is less probable than it usually is for its images.
    """
    own: dict[int, list[float]] = defaultdict(list)
    for image in images:
        own[image.label].append(image.given)
    usual = {label: sum(values) / len(values) for label, values in own.items()}
    return [
        image
        for image in find_mistakes(images, len(images))
        if image.probability >= usual.get(image.predicted, 1.0) and image.given < usual[image.label] / 2
    ][:count]
