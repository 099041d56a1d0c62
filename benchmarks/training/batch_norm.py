"""Measure what batch normalisation should do under pretrained weights: keep their statistics, or learn new ones.

A network is pretrained on generated patterns, since ImageNet's weights are not at hand, and then fine-tuned on scanned
digits: on few and on many, with each setting and several seeds. Valid and test are the same every time.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.results import claim, write_result
from localcloud.cli.digits import find_source, list_pictures

TRAINING = Path(__file__).parents[2] / "training"
ARCHITECTURE, SIDE, EPOCHS, SEEDS, THREADS = "mobilenet_v2", 32, 6, 3, 1
PATTERNS, PRETRAINED_ON = 10, 60
SIZES = {70: "keep", 140: "keep", 1200: "keep"}  # images for training, and what `auto` takes
CHOSEN = {"architecture": ARCHITECTURE, "image_size": SIDE, "epochs": EPOCHS, "batch_size": 16}


class Never:
    """A stop that nobody asks for."""

    def __call__(self) -> bool:
        return False

    def defer(self) -> None:
        """Nothing is waiting."""


def draw_pattern(label: int, rng: np.random.Generator) -> bytes:
    """A coloured grating whose direction and width are its class, in a random place, light and noise."""
    down, across = np.mgrid[0:SIDE, 0:SIDE]
    angle, width = np.pi * (label % 5) / 5, (3.0, 6.0)[label // 5]
    wave = np.sin(2 * np.pi * (across * np.cos(angle) + down * np.sin(angle)) / width + rng.uniform(0, 6.3))
    pixels = wave[..., None] * rng.uniform(30, 90, 3) + rng.uniform(60, 190, 3) + rng.normal(0, 20, (SIDE, SIDE, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def draw_patterns() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    counts = {"train": PRETRAINED_ON, "valid": 10, "test": 10}
    return {
        f"{split}/{label}/{number:03}.png": draw_pattern(label, rng)
        for split, count in counts.items()
        for label in range(PATTERNS)
        for number in range(count)
    }


def choose_digits(train: int) -> dict[str, bytes]:
    """The digits with `train` of them for training, 50 for validation and all that the demo tests on."""
    places: dict[tuple[str, ...], int] = defaultdict(int)
    most = {"train": train // 10, "valid": 5, "test": 10**6}
    kept = {}
    for name, picture in list_pictures(find_source()):
        place = tuple(name.split("/")[:2])
        places[place] += 1
        if places[place] <= most[place[0]]:
            kept[name] = picture
    return kept


def train(folder: Path, files: dict[str, bytes], weights: Path | None, **chosen: Any) -> float:
    """Run a whole training in this process. Returns the shipped model's accuracy on the test split."""
    import program
    from job.settings import Hyperparameters, Job, Places

    names = {name: folder / name for name in ("dataset", "model", "output", "checkpoints")}
    names["dataset"].mkdir(parents=True)
    with zipfile.ZipFile(names["dataset"] / "dataset.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    job = Job("benchmark", Places(weights=weights, code=TRAINING, **names), threads=THREADS, gpus=0)
    program.run(job, Hyperparameters(**CHOSEN, **chosen), Never(), begun=time.time())
    return float(json.loads((folder / "checkpoints/evaluation.json").read_text())["test"]["accuracy"])


def compare(folder: Path, weights: Path, images: int) -> dict[str, list[float]]:
    """The test accuracies of each setting, seed by seed."""
    files = choose_digits(images)
    return {
        setting: [
            train(
                folder / f"{images}-{setting}-{seed}",
                files,
                weights,
                pretrained="imagenet",
                batch_norm=setting,
                seed=seed,
            )
            for seed in range(SEEDS)
        ]
        for setting in ("keep", "learn")
    }


def main() -> None:
    sys.path.append(str(TRAINING))
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base)
        train(folder / "patterns", draw_patterns(), None, pretrained="none", learning_rate=1.0)
        weights = folder / "weights"
        weights.mkdir()
        (folder / "patterns/model/model.pth").rename(weights / f"{ARCHITECTURE}.pth")
        claims = []
        for images, taken in SIZES.items():
            found = compare(folder, weights, images)
            other = {"keep": "learn", "learn": "keep"}[taken]
            gains = [one - two for one, two in zip(found[taken], found[other], strict=True)]
            print(f"{images} images: {found}", flush=True)
            text = (
                f"{images} images: points of accuracy by `{taken}`, which auto takes ({mean(found[taken]):.3f}), over "
            )
            text += f"`{other}` ({mean(found[other]):.3f}); {SEEDS} seeds, standard deviation {100 * stdev(gains):.1f}"
            claims.append(claim(text, 100 * mean(gains), "points", at_least=-1.0))
        write_result("batch_norm", claims, ["torch", "torchvision"])


if __name__ == "__main__":
    main()
