"""Keep small images of a training for the page: pictures.json with mistakes, doubtful labels and test images to try.

{"format": 1, "mistakes": [...], "suspects": [...], "samples": [...]}, each {split, file, label, predicted, probability,
given, image}: classes by name, and the image as a data URL. Suspects come from dataset-fixes.csv, where there is one.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from job.artifact import write_json
from PIL import Image

MISTAKES, SUSPECTS, SAMPLES = 12, 12, 12
SIDE, LARGE = 128, 224  # pixels: a sample is what the model is asked about
QUALITY = 78
TINY = 64  # smaller images are kept without loss
PictureSource = Callable[[str, int], Image.Image]
Entry = dict[str, Any]


def write_gallery(job_folder: Path, pictures: PictureSource) -> Path:
    """Write job_folder/pictures.json and return its path. `pictures` returns the image of (split, number)."""
    predictions = json.loads((job_folder / "predictions.json").read_text())
    entries = list_entries(predictions, "test")
    found = {
        "mistakes": draw(find_worst(entries)[:MISTAKES], pictures, SIDE),
        "suspects": draw(list_suspects(job_folder, predictions)[:SUSPECTS], pictures, SIDE),
        "samples": draw(choose_samples(entries), pictures, LARGE),
    }
    path = job_folder / "pictures.json"
    write_json(path, {"format": 1, **found})
    return path


def list_entries(predictions: Mapping[str, Any], split: str) -> list[Entry]:
    """List a split's images with their label and answer by name."""
    classes, columns = predictions["classes"], predictions.get(split) or {}
    names = ("files", "labels", "predicted", "probability", "given")
    rows = zip(*(columns.get(name) or () for name in names), strict=True)
    return [
        {
            "split": split,
            "number": number,
            "file": file,
            "label": classes[label],
            "predicted": classes[predicted],
            "probability": probability,
            "given": given,
        }
        for number, (file, label, predicted, probability, given) in enumerate(rows)
    ]


def find_worst(entries: Sequence[Entry]) -> list[Entry]:
    """Return the wrong answers, those given with the greatest confidence first."""
    wrong = [each for each in entries if each["label"] != each["predicted"]]
    return sorted(wrong, key=lambda each: (each["given"] - each["probability"], each["number"]))


def choose_samples(entries: Sequence[Entry]) -> list[Entry]:
    """Return test images of as many classes as are shown; of each class the first."""
    first: dict[str, Entry] = {}
    for each in entries:
        first.setdefault(each["label"], each)
    chosen = [first[label] for label in sorted(first)]
    step = max(1, len(chosen) // SAMPLES)
    return chosen[::step][:SAMPLES]


def list_suspects(job_folder: Path, predictions: Mapping[str, Any]) -> list[Entry]:
    """Return the images of dataset-fixes.csv with what the model makes of them, as far as they can be shown."""
    path, labels = job_folder / "dataset-fixes.csv", job_folder / "labels.json"
    if not path.exists():
        return []
    known = {each["file"]: each for split in ("test", "valid") for each in list_entries(predictions, split)}
    doubts = json.loads(labels.read_text()).get("train", []) if labels.exists() else []
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    return list(match_suspects(rows, known, iter(doubts)))


def match_suspects(
    rows: csv.DictReader[str], known: Mapping[str, Entry], doubts: Iterator[Mapping[str, Any]]
) -> Iterator[Entry]:
    """Yield each row with its image's number; training images have theirs in labels.json, in the same order."""
    for row in rows:
        if row["split"] == "train":
            doubt = next(doubts, None)
            if doubt is None:
                continue
            told = {"split": "train", "number": doubt["number"], "file": row["file"], "label": row["label"]}
            yield told | {"predicted": row["looks_like"], "probability": None, "given": None}
        elif row["file"] in known:
            yield known[row["file"]]


def draw(entries: Sequence[Entry], pictures: PictureSource, side: int) -> list[Entry]:
    """Return the entries with their images; one whose image cannot be had is left out."""
    drawn = []
    for each in entries:
        try:
            image = encode(pictures(each["split"], each["number"]), side)
        except (OSError, IndexError, ValueError):
            continue
        drawn.append({name: value for name, value in each.items() if name != "number"} | {"image": image})
    return drawn


def encode(image: Image.Image, side: int) -> str:
    """Return an image as a data URL: JPEG, or PNG where it is tiny."""
    small = image.convert("RGB")
    kind = "png" if max(small.size) <= TINY else "jpeg"
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, kind.upper(), quality=QUALITY, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
