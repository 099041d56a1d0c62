"""Draw the datasets of the quality benchmark: files by their names in a zip, another draw for each seed.

Images are small and coloured. `digits` are scikit-learn's scans, and `photos` those of Debian's package
`tuxpaint-stamps-default`, where a folder has them; all others are generated, so that each has a thousand test images
or more.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from tests.training.judging.settling.drawing import draw_arrow

SIDE = 40
SHAPES, HUES = 7, 19  # whose products are the 133 classes
Random = np.random.Generator
Files = dict[str, bytes]
FLIPPED = 0.05


@dataclass(frozen=True)
class Set:
    """How many images each class has in each split, what draws one, and the measure that counts."""

    counts: Mapping[str, Sequence[int]]
    draw: Callable[[int, Random], bytes]
    measure: str = "accuracy"
    flipped: float = 0.0  # the share of training and validation labels that are wrong


def encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def to_image(pixels: np.ndarray[Any, Any]) -> bytes:
    return encode(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))


def draw_grating(label: int, rng: Random, *, classes: int, noise: float) -> bytes:
    """Coloured stripes, whose direction alone is their class; so many classes share half a turn."""
    down, across = np.mgrid[0:SIDE, 0:SIDE]
    angle = np.pi * (label + rng.normal(0, 0.15)) / classes
    wave = np.sin(2 * np.pi * (across * np.cos(angle) + down * np.sin(angle)) / rng.uniform(5, 8) + rng.uniform(0, 6.3))
    pixels = wave[..., None] * rng.uniform(30, 80, 3) + rng.uniform(70, 180, 3) + rng.normal(0, noise, (SIDE, SIDE, 3))
    return to_image(pixels)


def draw_fine(label: int, rng: Random) -> bytes:
    return draw_grating(label, rng, classes=12, noise=30)


def draw_close(label: int, rng: Random) -> bytes:
    """Four of fourteen directions: neighbours, so that a rare one is easily taken for a frequent one.

    The noise leaves room above the peers: with half of it the reference alone reaches a macro F1 of 0.93, with this
    0.85 (a seed that is not counted; ours was not looked at).
    """
    return draw_grating(label, rng, classes=14, noise=110)


def draw_directed(label: int, rng: Random) -> bytes:
    return encode(draw_arrow(("left", "right")[label], rng))


def draw_one_of_many(label: int, rng: Random) -> bytes:
    """A shape in a hue, on a noisy ground."""
    shape, hue = label % SHAPES, label // SHAPES
    ground = rng.normal(0, 14, (SIDE, SIDE, 3)) + rng.integers(40, 180, 3)
    image = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    pen, size = ImageDraw.Draw(image), int(rng.integers(16, 24))
    left, top = (int(each) for each in rng.integers(2, SIDE - size - 2, 2))
    degrees = 360 * (hue + rng.normal(0, 0.12)) / HUES % 360
    colour, box = f"hsl({degrees:.0f}, 90%, 55%)", [left, top, left + size, top + size]
    if shape == 0:
        pen.ellipse(box, fill=colour)
    elif shape == 1:
        pen.rectangle(box, fill=colour)
    elif shape == 2:
        pen.ellipse(box, outline=colour, width=4)
    elif shape == 3:
        pen.rectangle(box, outline=colour, width=4)
    else:
        pen.regular_polygon(
            (left + size / 2, top + size / 2, size / 2), shape - 1, rotation=int(rng.integers(-8, 9)), fill=colour
        )
    return encode(image)


@cache
def list_digits() -> tuple[list[bytes], list[int]]:
    found = load_digits()
    pictures = [
        Image.fromarray((each / 16 * 255).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        for each in found.images
    ]
    return [encode(each.convert("RGB")) for each in pictures], found.target.tolist()


def repeat(classes: int, train: int, valid: int, test: int) -> dict[str, list[int]]:
    return {"train": [train] * classes, "valid": [valid] * classes, "test": [test] * classes}


def draw_nothing(_label: int, _rng: Random) -> bytes:
    raise AssertionError("digits and photographs are not drawn")


TEN_TO_ONE = {"train": [200, 100, 50, 20], "valid": [40, 20, 10, 4], "test": [250] * 4}
SETS: Mapping[str, Set] = {
    "digits": Set(repeat(10, 40, 10, 110), draw_nothing),
    "fine-grained": Set(repeat(12, 30, 8, 84), draw_fine),
    "ten to one": Set(TEN_TO_ONE, draw_close, "macro_f1"),
    "left and right": Set(repeat(2, 100, 25, 500), draw_directed),
    "flipped labels": Set(repeat(10, 40, 10, 110), draw_nothing, flipped=FLIPPED),
    "133 classes": Set(repeat(SHAPES * HUES, 20, 3, 8), draw_one_of_many),
    "photos": Set({}, draw_nothing, "macro_f1"),  # seven times as many mammals as insects
}
STAMPS = ("animals/birds", "animals/insects", "animals/mammals", "food/fruit", "food/vegetables", "plants/flowers")
SHARES, CLOSE = {"test": 0.25, "valid": 0.15, "train": 1.0}, 64  # of a class, and of what is left; pixels


def read_photos(folder: Path, rng: Random) -> Files:
    """Deal photographs out, without drawings: a quarter of each class to test. What is transparent becomes white."""
    files = {}
    for label, name in enumerate(STAMPS):
        paths = sorted(path for path in (folder / name).rglob("*.png") if "cartoon" not in path.parts)
        left = [paths[number] for number in rng.permutation(len(paths))]
        for split, share in SHARES.items():
            count = round(share * len(left))
            for path in left[:count]:
                files[f"{split}/{label:03}/{path.stem}.png"] = shrink(path)
            left = left[count:]
    return files


def shrink(path: Path) -> bytes:
    with Image.open(path) as opened:
        image = opened.convert("RGBA")
    image.thumbnail((CLOSE, CLOSE))
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image)
    return encode(ground.convert("RGB"))


def draw_set(name: str, seed: int, photos: Path | None = None) -> Files:
    """Draw a set. Test labels are always right. photos: the folder of the set with this name."""
    chosen, rng = SETS[name], np.random.default_rng([seed, *name.encode()])
    if name == "photos":
        assert photos is not None
        return read_photos(photos, rng)
    pools = make_pools(rng) if chosen.draw is draw_nothing else None
    files = {}
    for split, counts in chosen.counts.items():
        for label, count in enumerate(counts):
            for number in range(count):
                data = pools[label].pop() if pools else chosen.draw(label, rng)
                told = label
                if split != "test" and rng.random() < chosen.flipped:
                    told = int((label + rng.integers(1, len(counts))) % len(counts))
                files[f"{split}/{told:03}/{label:03}-{number:04}.png"] = data
    return files


def make_pools(rng: Random) -> list[list[bytes]]:
    """Deal the digits out by class, in random order."""
    images, labels = list_digits()
    pools: list[list[bytes]] = [[] for _ in range(10)]
    for number in rng.permutation(len(images)):
        pools[labels[number]].append(images[number])
    return pools
