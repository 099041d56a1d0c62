"""Train tiny models inside the test's process, and hand their artifacts to the final training of another run.

Images are soft blobs in the colour of their class, so that a head on the features of a random network tells them apart
within a second; a file that looks like ImageNet's weights holds that network.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import program
import torch
import torchvision
from images.pixels import normalise, open_rgb, to_square
from job.settings import Hyperparameters, Job, Places
from learning.preparation import prepare
from PIL import Image

from tests.training.tiny import ROOT, make_zip, png

NETWORK = "shufflenet_v2_x0_5"
COLOURS = {"red": (190, 60, 60), "green": (60, 190, 60), "blue": (60, 60, 190), "grey": (120, 120, 120)}
CLASSES = ("red", "green", "blue")
COUNTS = {"train": 12, "valid": 8, "test": 20}
QUICK = {
    "run_id": "run-new",
    "architecture": NETWORK,
    "image_size": 32,
    "batch_size": 8,
    "epochs": 1,
    "pretrained": "imagenet",
    "fine_tune": "head",
    "profile": True,
}


def draw(label: str, seed: int) -> bytes:
    """Draw an image of a class; each seed has its own pattern."""
    rng = np.random.default_rng([seed, *label.encode()])
    noise = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((40, 40), Image.Resampling.BICUBIC)
    pixels = 0.2 * np.asarray(noise, dtype=float) + 0.8 * np.array(COLOURS[label])
    return png(Image.fromarray(pixels.astype(np.uint8)))


def draw_files(
    classes: Sequence[str] = CLASSES, first: int = 0, counts: Mapping[str, int] = COUNTS
) -> dict[str, bytes]:
    """Draw a dataset with all splits, as files by their names. first: the seed of each class's first image."""
    files, seed = {}, first
    for split, count in counts.items():
        for label in classes:
            files |= {f"{split}/{label}/{number:03}.png": draw(label, seed + number) for number in range(count)}
        seed += count
    return files


def shuffle_labels(files: Mapping[str, bytes], splits: Sequence[str] = ("train", "valid")) -> dict[str, bytes]:
    """Give every second image of some splits the label of another class."""
    shuffled = {}
    for place, (name, data) in enumerate(files.items()):
        split, label, file = name.split("/")
        if split in splits:
            label = CLASSES[(CLASSES.index(label) + place) % len(CLASSES)]
        shuffled[f"{split}/{label}/{place}-{file}"] = data
    return shuffled


class Never:
    """A stop that nobody asks for, or that is asked for after so many looks."""

    def __init__(self, after: float = float("inf")) -> None:
        self.left = after

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0

    def defer(self) -> None:
        """Nothing to defer."""


def make_job(folder: Path, files: Mapping[str, bytes], weights: Path) -> Job:
    """Write the dataset into a new job's channel."""
    channel = folder / "input"
    channel.mkdir(parents=True)
    (channel / "dataset.zip").write_bytes(make_zip(files))
    names = {name: folder / name for name in ("model", "output", "checkpoints")}
    places = Places(dataset=channel, weights=weights, code=ROOT / "training", **names)
    return Job("job-of-" + folder.name, places, threads=1, gpus=0)


def train(job: Job, *, stop: Never | None = None, **chosen: Any) -> program.Session:
    """Run a training up to its comparison, which only the last one has. Return its session."""
    session = program.open_session(prepare(job, Hyperparameters(**{**QUICK, **chosen})), Never(), time.time())
    program.begin(session)
    finished = program.train(session, ())
    program.ship(session, stop or Never(), finished=finished)
    return session


def pack(job: Job, change: Callable[[dict[str, Any]], Any] = lambda _: None) -> Path:
    """Pack a job's model folder as SageMaker does, after a change of its manifest. Return the folder, a channel."""
    channel = job.places.output / "channel"
    channel.mkdir(parents=True, exist_ok=True)
    manifest = json.loads((job.places.model / "manifest.json").read_text())
    change(manifest)
    body = json.dumps(manifest).encode()
    with tarfile.open(channel / "model.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(job.places.model / "model.pth", "model.pth")
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(body)
        archive.addfile(entry, io.BytesIO(body))
    return channel


def with_channels(job: Job, **channels: Path) -> Job:
    return replace(job, places=replace(job.places, **channels))


def copy_folder(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


def read(job: Job, name: str) -> Any:
    """Read a JSON file of the job's folder, or the manifest."""
    folder = job.places.model if name == "manifest" else job.places.checkpoints
    return json.loads((folder / f"{name}.json").read_text())


def load_shipped(job: Job) -> dict[str, torch.Tensor]:
    return torch.load(job.places.model / "model.pth", weights_only=True)


def write_weights(folder: Path) -> Path:
    """Write a random network as if it were torchvision's file of weights. Return the channel.

    Its statistics of normalisation are those of such images: with others its features would be all but the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = torchvision.models.get_model(NETWORK, weights=None).train()
    images = [open_rgb(data) for data in draw_files(first=5000).values()]
    batch = torch.stack([torch.from_numpy(to_square(image, 32).copy()) for image in images])
    with torch.no_grad():
        for _ in range(30):
            network(normalise(batch))
    torch.save(network.state_dict(), folder / f"{NETWORK}.pth")
    return folder
