"""Generate photographs: smooth shapes of their class's colours under the grain of a sensor, as JPEGs in a zip."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = ("train", "valid", "test")


def draw_photo(seed: int, label: int, size: tuple[int, int]) -> bytes:
    """Draw a JPEG whose colours tell its class, and whose shapes are its own."""
    rng = np.random.default_rng(seed)
    tone = np.random.default_rng(label).integers(0, 256, 3)
    coarse = (rng.integers(0, 256, (8, 12, 3)) * 0.6 + tone * 0.4).astype(np.uint8)
    soft = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    grain = rng.normal(0, 6, (size[1], size[0], 1)).astype(np.float32)
    buffer = io.BytesIO()
    Image.fromarray((np.asarray(soft) + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_photos(
    path: Path, counts: Mapping[str, int], size: tuple[int, int], *, classes: int = 4, different: int = 0
) -> None:
    """Write a dataset's zip. counts: images by split. different: how many are drawn, after which they repeat; 0: all.

    Repeated images differ in a comment behind their end, so that no two files are the same.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [(split, number) for split in SPLITS for number in range(counts.get(split, 0))]
    drawn = min(different or len(names), len(names))
    with ThreadPoolExecutor() as pool:
        bodies = list(pool.map(lambda seed: draw_photo(seed, seed % classes, size), range(drawn)))
    with zipfile.ZipFile(path, "w") as archive:
        for place, (split, number) in enumerate(names):
            body = bodies[place % drawn] + (place.to_bytes(8, "big") if place >= drawn else b"")
            archive.writestr(f"{split}/class{place % drawn % classes}/{number:06}.jpg", body)


def unzip(path: Path, folder: Path) -> Path:
    """Unpack a zip as a user does."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder
