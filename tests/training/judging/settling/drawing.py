"""Draw sets of coloured images, as large as photographs, whose mirror images are of another class or of the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tests.training.tiny import make_zip, png

SIDE = 72
Draw = Callable[[str, np.random.Generator], Image.Image]


def make_canvas(rng: np.random.Generator) -> tuple[Image.Image, ImageDraw.ImageDraw, tuple[int, int, int]]:
    """Return a noisy coloured ground, something to draw with, and a colour that stands out."""
    ground = rng.integers(0, 110, 3)
    noise = rng.normal(0, 12, (SIDE, SIDE, 3)) + ground
    image = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
    red, green, blue = (int(each) for each in rng.integers(150, 256, 3))
    return image, ImageDraw.Draw(image), (red, green, blue)


def draw_arrow(label: str, rng: np.random.Generator) -> Image.Image:
    """An arrow to the left or to the right."""
    image, pen, colour = make_canvas(rng)
    middle, length = rng.integers(28, 45, 2), int(rng.integers(16, 24))
    down, across, way = int(middle[0]), int(middle[1]), -1 if label == "left" else 1
    tip = across + way * length
    pen.line([(across - way * length, down), (tip, down)], fill=colour, width=int(rng.integers(4, 8)))
    pen.polygon([(tip + way * 4, down), (tip - way * 12, down - 13), (tip - way * 12, down + 13)], fill=colour)
    return image


def draw_letter(label: str, rng: np.random.Generator) -> Image.Image:
    """A letter whose mirror image is another letter."""
    image, pen, colour = make_canvas(rng)
    place = (int(rng.integers(12, 28)), int(rng.integers(-2, 10)))
    pen.text(place, label, fill=colour, font=ImageFont.load_default(int(rng.integers(46, 58))))
    return image


def draw_stripes(label: str, rng: np.random.Generator) -> Image.Image:
    """Stripes that rise or fall."""
    image, pen, colour = make_canvas(rng)
    way, gap, first = (-1 if label == "rising" else 1), int(rng.integers(10, 16)), int(rng.integers(0, 16))
    for across in range(first - SIDE, 2 * SIDE, gap):
        pen.line([(across, 0), (across + way * SIDE, SIDE)], fill=colour, width=4)
    return image


def draw_figure(label: str, rng: np.random.Generator) -> Image.Image:
    """A disc, a ring, a cross or a bar: each is like its mirror image."""
    image, pen, colour = make_canvas(rng)
    left, top, size = (int(each) for each in (*rng.integers(8, 26, 2), rng.integers(26, 38)))
    box, wide = [left, top, left + size, top + size], size // 5
    if label == "disc":
        pen.ellipse(box, fill=colour)
    elif label == "ring":
        pen.ellipse(box, outline=colour, width=wide)
    elif label == "cross":
        pen.line([(left, top + size // 2), (left + size, top + size // 2)], fill=colour, width=wide)
        pen.line([(left + size // 2, top), (left + size // 2, top + size)], fill=colour, width=wide)
    else:
        pen.rectangle([left, top + size // 3, left + size, top + 2 * size // 3], fill=colour)
    return image


def draw_pet(label: str, rng: np.random.Generator) -> Image.Image:
    """An animal seen from the side, looking either way: its colour is its class."""
    image, pen, _ = make_canvas(rng)
    bright, dark = int(rng.integers(170, 256)), int(rng.integers(20, 110))
    colours = {"red": (bright, dark, dark), "green": (dark, bright, dark), "blue": (dark, dark, bright)}
    way, left, top = int(rng.choice([-1, 1])), int(rng.integers(20, 28)), int(rng.integers(26, 34))
    pen.ellipse([left, top, left + 30, top + 18], fill=colours[label])
    for leg in (4, 24):
        pen.line([(left + leg, top + 14), (left + leg, top + 32)], fill=colours[label], width=4)
    across, above = left + 15 + way * 17, top - 6
    pen.ellipse([across - 9, above - 9, across + 9, above + 9], fill=colours[label])
    return image


def draw_dots(label: str, rng: np.random.Generator) -> Image.Image:
    """Few or many dots, or dashes, anywhere."""
    image, pen, colour = make_canvas(rng)
    for across, down in rng.integers(4, SIDE - 8, (8 if label == "few" else 30, 2)).tolist():
        box = [across, down, across + 6, down + (2 if label == "dashes" else 6)]
        pen.ellipse(box, fill=colour)
    return image


DIRECTED: Mapping[str, tuple[Draw, tuple[str, ...]]] = {
    "arrows": (draw_arrow, ("left", "right")),
    "letters": (draw_letter, ("b", "d", "p", "q")),
    "stripes": (draw_stripes, ("rising", "falling")),
}
EVEN: Mapping[str, tuple[Draw, tuple[str, ...]]] = {
    "figures": (draw_figure, ("disc", "ring", "cross", "bar")),
    "pets": (draw_pet, ("red", "green", "blue")),
    "dots": (draw_dots, ("few", "many", "dashes")),
}


def draw_set(name: str, counts: Mapping[str, int], seed: int = 0) -> bytes:
    """Return a zip with `counts` images of each class in each split."""
    draw, classes = {**DIRECTED, **EVEN}[name]
    rng = np.random.default_rng(seed)
    return make_zip(
        {
            f"{split}/{label}/{number:03}.png": png(draw(label, rng))
            for split, count in counts.items()
            for label in classes
            for number in range(count)
        }
    )
