"""Look for wrong labels in all splits, once the model is safe: labels.json for the report, dataset-fixes.csv to act on.

Training images are judged out of fold, on features of weights that never saw these labels: ImageNet's, or the pixels if
there are none. Validation and test images, which the model was not trained on, are judged by its answers.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from images.assembly import Dataset, Split
from images.splits import perceptual_key
from job.artifact import write_json
from job.metrics import log
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d

from judging.labels import Doubt, find_doubts
from judging.suspects import Judged, find_suspects, list_judged

SIDE = 16  # of the images whose pixels are features
STEP = 256
MOST = 20_000  # training images; of more only so many are judged
HEADS = ("file", "split", "label", "looks_like", "clearness", "verdict")
VERDICTS = {True: "looks wrong", False: "worth a look: too little is known to say more"}


def find_fixes(data: Dataset, folder: Path, features: torch.Tensor | None) -> None:
    """Write labels.json and dataset-fixes.csv into a job's folder.

    features: (n, d) of the training images, by weights that never saw their labels; None if there are no such weights.
    """
    kind = "pixels" if features is None else "ImageNet's weights"
    features = shrink(data.train) if features is None else features[:MOST]
    count = len(features)
    doubts = find_doubts(features, data.train.labels[:count], list_keys(data.train, count))
    predictions = json.loads((folder / "predictions.json").read_text())
    suspects = find_suspects(list_judged(predictions, ("test", "valid")), len(data.test) + len(data.valid))
    rows = [*(describe_doubt(data, doubt) for doubt in doubts), *(describe_suspect(data, each) for each in suspects)]
    sure = all(doubt.sure for doubt in doubts)
    content = {"format": 1, "features": kind, "images": count, "sure": sure, "train": [vars(each) for each in doubts]}
    write_json(folder / "labels.json", content)
    partial = folder / "dataset-fixes.partial"
    partial.write_text(write_table(rows), encoding="utf-8")
    partial.replace(folder / "dataset-fixes.csv")
    log(f"{len(doubts)} of {count} training labels are listed in dataset-fixes.csv, by features of {kind}")


def shrink(split: Split) -> torch.Tensor:
    """Return the pixels of a split's images, reduced to SIDE x SIDE, as vectors."""
    numbers = torch.arange(min(len(split), MOST))
    parts = [adaptive_avg_pool2d(split.images(chosen).float() / 255, SIDE).flatten(1) for chosen in numbers.split(STEP)]
    return torch.cat(parts)


def list_keys(split: Split, count: int) -> list[bytes]:
    """Return the perceptual key of each image: copies have the same."""
    keys = []
    for chosen in torch.arange(count).split(STEP):
        for pixels in split.images(chosen):
            keys.append(perceptual_key(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())))
    return keys


def describe_doubt(data: Dataset, doubt: Doubt) -> list[Any]:
    names = data.classes[doubt.label], data.classes[doubt.likely]
    return [data.train.names[doubt.number], "train", *names, f"{doubt.margin:.3f}", VERDICTS[doubt.sure]]


def describe_suspect(data: Dataset, image: Judged) -> list[Any]:
    names = data.classes[image.label], data.classes[image.predicted]
    return [image.file, image.split, *names, f"{image.probability - image.given:.3f}", VERDICTS[True]]


def write_table(rows: Sequence[Sequence[Any]]) -> str:
    """Return the rows as CSV, with their heads."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADS)
    writer.writerows(rows)
    return buffer.getvalue()
