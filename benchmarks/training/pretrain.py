"""Train a stand-in for ImageNet's weights on generated classes, where tests and benchmarks need pretrained weights.

The classes are coloured gratings that differ in direction and width. What a network learns of them are edges and
textures, as the first layers of any pretrained network do; it is no match for ImageNet's features.

    python -m benchmarks.training.pretrain [--architecture resnet18] [--side 32] [--epochs 6] [--to weights]

writes weights/ARCHITECTURE.pth, which a job takes in its channel `weights`.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TRAINING = Path(__file__).parents[2] / "training"
WIDTHS, DIRECTIONS = (3.0, 6.0), 5
PATTERNS = len(WIDTHS) * DIRECTIONS
PRETRAINED_ON, HELD_OUT = 60, 10  # images of each class
THREADS = 1


class Never:
    """A stop that nobody asks for."""

    def __call__(self) -> bool:
        return False

    def defer(self) -> None:
        """Nothing is waiting."""


def draw_pattern(label: int, side: int, rng: np.random.Generator) -> bytes:
    """Draw a coloured grating whose direction and width are its class, in a random place, light and noise."""
    down, across = np.mgrid[0:side, 0:side]
    angle, width = np.pi * (label % DIRECTIONS) / DIRECTIONS, WIDTHS[label // DIRECTIONS]
    wave = np.sin(2 * np.pi * (across * np.cos(angle) + down * np.sin(angle)) / width + rng.uniform(0, 6.3))
    pixels = wave[..., None] * rng.uniform(30, 90, 3) + rng.uniform(60, 190, 3) + rng.normal(0, 20, (side, side, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def draw_patterns(side: int, images: int = PRETRAINED_ON) -> dict[str, bytes]:
    """Draw the whole dataset, with so many images of each class to train on: files by their names in a zip."""
    rng = np.random.default_rng(0)
    counts = {"train": images, "valid": HELD_OUT, "test": HELD_OUT}
    return {
        f"{split}/{label}/{number:03}.png": draw_pattern(label, side, rng)
        for split, count in counts.items()
        for label in range(PATTERNS)
        for number in range(count)
    }


def make_job(folder: Path, files: Mapping[str, bytes], weights: Path | None, features: Path | None = None) -> Any:
    """Write a dataset below `folder`, and return a job on it. features: where jobs share what a backbone computes."""
    if str(TRAINING) not in sys.path:
        sys.path.append(str(TRAINING))
    from job.settings import Job, Places

    names = {name: folder / name for name in ("dataset", "model", "output", "checkpoints")}
    names["dataset"].mkdir(parents=True)
    with zipfile.ZipFile(names["dataset"] / "dataset.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    places = Places(weights=weights, code=TRAINING, **names)
    return Job("benchmark", places, threads=THREADS, gpus=0, feature_cache=features)


def train(folder: Path, files: Mapping[str, bytes], weights: Path | None, **chosen: Any) -> float:
    """Run a whole training in this process, below `folder`. Return the shipped model's accuracy on the test split."""
    job = make_job(folder, files, weights)
    import program
    from job.settings import Hyperparameters

    program.run(job, Hyperparameters(**chosen), Never(), begun=time.time())
    return float(json.loads((folder / "checkpoints/evaluation.json").read_text())["test"]["accuracy"])


def pretrain(to: Path, architecture: str, *, side: int = 32, epochs: int = 6, images: int = PRETRAINED_ON) -> float:
    """Write to/ARCHITECTURE.pth and return the accuracy on new images of the generated classes."""
    to.mkdir(parents=True, exist_ok=True)
    chosen = {"architecture": architecture, "image_size": side, "epochs": epochs, "batch_size": 16}
    with tempfile.TemporaryDirectory(dir=to) as folder:
        files = draw_patterns(side, images)
        accuracy = train(Path(folder), files, None, pretrained="none", learning_rate=1.0, **chosen)
        (Path(folder) / "model/model.pth").rename(to / f"{architecture}.pth")
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.pretrain", description=__doc__.split("\n")[0])
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--side", type=int, default=32, help="pixels")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--to", type=Path, default=Path("weights"))
    told = parser.parse_args()
    accuracy = pretrain(told.to, told.architecture, side=told.side, epochs=told.epochs)
    print(f"{told.to / told.architecture}.pth: {accuracy:.1%} of new images of {PATTERNS} generated classes are right")


if __name__ == "__main__":
    main()
