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
from images.pixels import crop_centre
from PIL import Image
from torch import nn

from judging.explaining import make_explainer, paint

DIGITS = 4
LEAST_SIDE = 112  # pixels of an image that is shown with its map
PictureSource = Callable[[str, int], Image.Image]
MapSource = Callable[[str, int, int], Image.Image]


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


def show_maps(
    dataset: Dataset, network: nn.Module, make_inputs: Callable[[Split, torch.Tensor], torch.Tensor], image_size: int
) -> MapSource | None:
    """Return a function that gives the image of (split, number) with a map of what spoke for a class; None without.

    make_inputs: gives the network's inputs of the chosen images of a split.
    """
    first = torch.tensor([0])
    explainer = make_explainer(network, make_inputs(dataset.test, first))
    if explainer is None:
        return None

    def show(split: str, number: int, label: int) -> Image.Image:
        own, chosen = getattr(dataset, split), torch.tensor([number])
        _, heat = explainer.explain(make_inputs(own, chosen), label)
        pixels = crop_centre(own.images(chosen), image_size)[0].permute(1, 2, 0).contiguous().numpy()
        side = max(LEAST_SIDE, image_size)
        return paint(Image.fromarray(pixels).resize((side, side)), heat)

    return show
