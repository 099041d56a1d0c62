"""Test which small images a training keeps for the page."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

from PIL import Image
from report.gallery import LARGE, SAMPLES, SIDE, write_gallery

CLASSES = ["cat", "dog", "owl"]


def show(split: str, number: int) -> Image.Image:
    """Return an image; the last of test cannot be had."""
    if (split, number) == ("test", 5):
        raise IndexError(number)
    return Image.new("RGB", (300, 300), (number * 20, 0, 0))


def write_predictions(folder: Path) -> None:
    test = {
        "files": [f"test/{number}.jpg" for number in range(6)],
        "labels": [0, 0, 1, 1, 2, 2],
        "predicted": [0, 1, 1, 2, 2, 0],
        "probability": [0.9, 0.6, 0.9, 0.95, 0.9, 0.99],
        "given": [0.9, 0.3, 0.9, 0.01, 0.9, 0.0],
    }
    (folder / "predictions.json").write_text(json.dumps({"format": 1, "classes": CLASSES, "test": test}))


def test_mistakes_suspects_and_samples_are_kept_as_small_images(tmp_path: Path) -> None:
    """The surest mistakes are first; suspects follow the list of fixes; one image of each class can be tried."""
    write_predictions(tmp_path)
    rows = ["file,split,label,looks_like,clearness,verdict", "train/9.jpg,train,cat,owl,0.9,looks wrong"]
    rows += ["test/3.jpg,test,dog,owl,0.94,looks wrong", "test/gone.jpg,test,dog,owl,0.9,looks wrong"]
    (tmp_path / "dataset-fixes.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "labels.json").write_text(json.dumps({"train": [{"number": 9, "label": 0, "likely": 2}]}))
    told = json.loads(write_gallery(tmp_path, show).read_text())
    assert [each["file"] for each in told["mistakes"]] == ["test/3.jpg", "test/1.jpg"]
    assert [(each["split"], each["predicted"]) for each in told["suspects"]] == [("train", "owl"), ("test", "owl")]
    assert [each["label"] for each in told["samples"]] == CLASSES
    sizes = [measure(told[name][0]["image"]) for name in ("mistakes", "samples")]
    assert sizes == [(SIDE, SIDE), (LARGE, LARGE)]


def measure(address: str) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).size


def test_a_training_without_a_list_of_fixes_keeps_the_rest(tmp_path: Path) -> None:
    """Of many classes some are shown."""
    many = [f"c{number:03d}" for number in range(100)]
    count = list(range(100))
    even = {"files": many, "labels": count, "predicted": count, "probability": [0.9] * 100, "given": [0.9] * 100}
    (tmp_path / "predictions.json").write_text(json.dumps({"format": 1, "classes": many, "test": even}))
    told = json.loads(write_gallery(tmp_path, lambda *_: Image.new("RGB", (32, 32))).read_text())
    assert (told["mistakes"], told["suspects"], len(told["samples"])) == ([], [], SAMPLES)
    assert told["samples"][0]["image"].startswith("data:image/png")
