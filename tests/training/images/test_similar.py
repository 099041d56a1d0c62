"""Near copies: each kind is found among drawn scenes, and hardly any other image is flagged; so much finds the key."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from images.data import read_dataset
from images.pixels import to_square
from images.similar import describe_look, find_near_copies, report_near_copies
from images.splits import perceptual_key
from PIL import Image, ImageDraw

from tests.training.tiny import encode, make_zip, png

KNOWN, COPIES, FRESH = 500, 50, 1_000
Random = np.random.Generator


@cache
def draw_scene(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """Draw soft colours, a few shapes and noise, different for each seed."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(3, 9, 2)
    noise = rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(3, 9)):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        wide, tall = map(int, rng.integers(5, 50, 2))
        shape = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        shape([x - wide, y - tall, x + wide, y + tall], fill=tuple(map(int, rng.integers(0, 256, 3))))
    return add_noise(image, 6, rng)


def add_noise(image: Image.Image, amount: float, rng: Random) -> Image.Image:
    pixels = np.asarray(image) + rng.normal(0, amount, (image.height, image.width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def crop(image: Image.Image, rng: Random) -> Image.Image:
    """Cut off 5 % of both sides, anywhere."""
    wide, tall = image.width * 95 // 100, image.height * 95 // 100
    left, top = int(rng.integers(0, image.width - wide + 1)), int(rng.integers(0, image.height - tall + 1))
    return image.crop((left, top, left + wide, top + tall)).resize(image.size, Image.Resampling.BILINEAR)


def shoot_again(image: Image.Image, rng: Random) -> Image.Image:
    """Draw the next image of a burst: moved a little, in slightly other light, with other noise."""
    moved = np.roll(np.asarray(image), tuple(rng.integers(-4, 5, 2)), (0, 1)) * rng.uniform(0.93, 1.07)
    return add_noise(Image.fromarray(moved.clip(0, 255).astype(np.uint8)), 5, rng)


KINDS: dict[str, Callable[[Image.Image, Random], Image.Image]] = {
    "re-encoded": lambda image, _: Image.open(io.BytesIO(encode(image, "JPEG", quality=60))).convert("RGB"),
    "resized": lambda image, _: image.resize((80, 60), Image.Resampling.BILINEAR),
    "mirrored": lambda image, _: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "cropped": crop,
    "turned": lambda image, rng: image.rotate(rng.uniform(-5, 5), Image.Resampling.BILINEAR),
    "burst": shoot_again,
}
# The shares that the key alone finds of these scenes, at the least and the most.
BY_KEY = {
    "re-encoded": (0.75, 1.0),
    "resized": (0.8, 1.0),
    "mirrored": (0.0, 0.1),
    "cropped": (0.0, 0.25),
    "turned": (0.1, 0.5),
    "burst": (0.05, 0.4),
}


def look(images: list[Image.Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack([describe_look(to_square(image, 64)) for image in images]))


@cache
def look_at_known() -> torch.Tensor:
    return look([draw_scene(seed) for seed in range(KNOWN)])


LABELS = torch.arange(KNOWN) % 5


def copy_some(kind: str) -> list[Image.Image]:
    rng = np.random.default_rng(1)
    return [KINDS[kind](draw_scene(seed), rng) for seed in range(COPIES)]


@pytest.mark.parametrize("kind", KINDS)
def test_four_of_five_copies_of_each_kind_are_found(kind: str) -> None:
    """By descriptors; what is found is named with its original."""
    found = find_near_copies(look(copy_some(kind)), LABELS[:COPIES], look_at_known(), LABELS)
    assert sum(one == other for one, other in found) >= 0.8 * COPIES
    assert len(found) <= COPIES


def test_hardly_any_other_image_is_flagged() -> None:
    """Of a thousand scenes that are no copies, at most one is."""
    fresh = look([draw_scene(10_000 + seed) for seed in range(FRESH)])
    assert len(find_near_copies(fresh, torch.arange(FRESH) % 5, look_at_known(), LABELS)) <= FRESH // 1_000


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_key_alone_finds(kind: str) -> None:
    """The cut's key keeps re-encoded and resized copies together, and cannot see mirrored and cropped ones."""
    pairs = zip(range(COPIES), copy_some(kind), strict=True)
    share = sum(perceptual_key(draw_scene(seed)) == perceptual_key(copied) for seed, copied in pairs) / COPIES
    least, most = BY_KEY[kind]
    assert least <= share <= most


def test_near_copies_in_test_are_told(tmp_path: Path) -> None:
    """The warning has the count and both names; a dataset without copies has none."""
    names = [
        f"{split}/{c}/{turn}.png"
        for split, n in (("train", 20), ("valid", 6), ("test", 6))
        for c in "ab"
        for turn in range(n)
    ]
    files = {name: png(draw_scene(seed)) for seed, name in enumerate(names)}
    copied = files | {
        "test/a/0.png": png(KINDS["mirrored"](draw_scene(names.index("train/a/3.png")), np.random.default_rng()))
    }
    warnings = []
    for turn, content in enumerate((files, copied)):
        path = tmp_path / f"{turn}.zip"
        path.write_bytes(make_zip(content))
        warnings.append(report_near_copies(read_dataset(path, 64, threads=2, scratch=tmp_path)))
    assert warnings[0] == []
    assert "1 of 12 test images that were compared nearly equal one of train" in warnings[1][0]
    assert "test/a/0.png = train/a/3.png" in warnings[1][0]
