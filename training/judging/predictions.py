"""Record the best weights' predictions on each image outside train, for people to look at: predictions.json.

Its columns have equal lengths, with one entry per image: {"format": 1, "classes": […], "temperature": t,
"train": {"counts": […]}, "valid": {"files", "labels", "predicted", "probability", "given"}, "test": the same}. Labels
and predictions are class numbers; `probability` is that of the prediction and `given` that of the label, at the
temperature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from images.assembly import Dataset, Split
from PIL import Image

DIGITS = 4
PictureSource = Callable[[str, int], Image.Image]


def describe_predictions(dataset: Dataset, logits: Mapping[str, torch.Tensor], temperature: float) -> dict[str, Any]:
    """Build predictions.json. logits: (n, classes) of each split by name, in the order of its images."""
    counts = torch.bincount(dataset.train.labels, minlength=len(dataset.classes))
    columns = {name: describe_split(getattr(dataset, name), each / temperature) for name, each in logits.items()}
    train = {"counts": counts.tolist()}
    return {"format": 1, "classes": dataset.classes, "temperature": temperature, "train": train, **columns}


def describe_split(split: Split, logits: torch.Tensor) -> dict[str, list[Any]]:
    """Build the columns of one split."""
    likely = logits.double().softmax(1).nan_to_num(0)
    probability, predicted = likely.max(1)
    given = likely.gather(1, split.labels[:, None])[:, 0]
    return {
        "files": split.names,
        "labels": split.labels.tolist(),
        "predicted": predicted.tolist(),
        "probability": round_all(probability),
        "given": round_all(given),
    }


def round_all(values: torch.Tensor) -> list[float]:
    return [round(value, DIGITS) for value in values.tolist()]


def show_pictures(dataset: Dataset) -> PictureSource:
    """Return a function that gives the image of (split, number) as cached: a square."""

    def show(split: str, number: int) -> Image.Image:
        pixels = getattr(dataset, split).images(torch.tensor([number]))[0]
        return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())

    return show
