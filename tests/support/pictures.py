"""Draw small datasets of coloured images, quick to learn, from a seed."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import repeat

from PIL import Image

COLOURS = {"red": (200, 40, 40), "green": (40, 170, 60), "blue": (40, 60, 200)}
NOISE = 35
COUNTS = {"train": 16, "valid": 8, "test": 8}
SMALL = {"train": 3, "valid": 3}


def draw_picture(colour: tuple[int, int, int], dice: random.Random, size: int = 24) -> bytes:
    """Draw a PNG of one noisy colour."""
    noise = draw_noise(dice)
    parts = bytes([max(0, min(255, part + next(noise))) for _ in range(size * size) for part in colour])
    image = Image.frombytes("RGB", (size, size), parts)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def draw_noise(dice: random.Random) -> Iterator[int]:
    """Yield what `dice.randint(-NOISE, NOISE)` returns time after time, in a quarter of the time."""
    count = 2 * NOISE + 1
    bits = repeat(count.bit_length())
    return (number - NOISE for number in map(dice.getrandbits, bits) if number < count)


def build_colour_zip(seed: int = 0, counts: Mapping[str, int] = COUNTS, root: str = "") -> bytes:
    """Pack a dataset of three colours: `counts[split]` images of each in every split."""
    return _build_colour_zip(seed, tuple(counts.items()), root)


def build_small_zip(seed: int = 0) -> bytes:
    """Pack the smallest such dataset that is accepted: three images of each colour to train and to validate."""
    return build_colour_zip(seed, SMALL)


@cache
def _build_colour_zip(seed: int, counts: tuple[tuple[str, int], ...], root: str) -> bytes:
    dice = random.Random(seed)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for split, count in counts:
            for name, colour in COLOURS.items():
                for index in range(count):
                    entry = zipfile.ZipInfo(f"{root}{split}/{name}/{index:03d}.png")  # of no time: the same bytes again
                    archive.writestr(entry, draw_picture(colour, dice))
    return buffer.getvalue()


def draw_test_picture(name: str, seed: int = 99) -> bytes:
    """Draw an image of one colour that is in no dataset with a small seed."""
    return draw_picture(COLOURS[name], random.Random(seed))
