"""Show images in the report: small squares inside the file, with the model's answer and the label."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from judging.suspects import Judged
from PIL import Image

from report.charts.choices import Pair

SIDE = 132  # pixels, sharp on most screens at the width at which they are shown
QUALITY = 72
TINY = 48  # smaller images are shown with visible pixels
PictureSource = Callable[[str, int], Image.Image]
MapSource = Callable[[str, int, int], Image.Image]


def embed(image: Image.Image) -> str:
    """Return an <img> that holds the image: JPEG, or PNG where it is tiny."""
    small = image.convert("RGB")
    tiny = max(small.size) <= TINY
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    kind = "png" if tiny else "jpeg"
    small.save(buffer, kind.upper(), quality=QUALITY, optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt=""{" class=tiny" if tiny else ""} src="data:image/{kind};base64,{data}">'


def place(image: Judged, pictures: PictureSource | None) -> str:
    """Return the image, where one is available."""
    return embed_picture(image.split, image.number, pictures)


def embed_picture(split: str, number: int, pictures: PictureSource | None) -> str:
    if pictures is None:
        return ""
    try:
        return embed(pictures(split, number))
    except (OSError, IndexError, ValueError):
        return ""


def place_map(image: Judged, maps: MapSource | None) -> str:
    """Return the image with a map of what spoke for the answer, where one is available."""
    if maps is None:
        return ""
    try:
        return embed(maps(image.split, image.number, image.predicted))
    except (OSError, IndexError, ValueError, RuntimeError):
        return ""


def breakable(name: str) -> str:
    """Return a class's name that may break after each of its parts."""
    return re.sub(r"([_.\-])", r"\1<wbr>", escape(name))


def show_path(name: str) -> str:
    """Return a file's path as it is in the user's zip, which may break after each of its parts."""
    return re.sub(r"([/_.\-])", r"\1<wbr>", escape(name))


def show_shots(
    images: Sequence[Judged], classes: Sequence[str], pictures: PictureSource | None, maps: MapSource | None = None
) -> str:
    """Return images with their label, the model's answer, and the file's name; nothing for no images."""
    shots = "".join(show_shot(image, classes, pictures, maps) for image in images)
    return f'<div class="shots">{shots}</div>' if shots else ""


def show_shot(
    image: Judged, classes: Sequence[str], pictures: PictureSource | None, maps: MapSource | None = None
) -> str:
    label, answer = breakable(classes[image.label]), breakable(classes[image.predicted])
    return (
        f'<figure class="shot" title="{escape(image.file)}">{place(image, pictures)}{place_map(image, maps)}'
        f"label <b>{label}</b> {image.given:.0%}<br>answer <b>{answer}</b> {image.probability:.0%}"
        f'<br><span class="muted">{show_path(image.file)}</span></figure>'
    )


def show_doubts(doubts: Sequence[Mapping[str, Any]], classes: Sequence[str], pictures: PictureSource | None) -> str:
    """Return training images with their label and the class that they look like."""
    shown = []
    for doubt in doubts:
        image = embed_picture("train", doubt["number"], pictures)
        label, likely = (breakable(classes[doubt[name]]) for name in ("label", "likely"))
        shown.append(f'<figure class="shot">{image}label <b>{label}</b><br>looks like <b>{likely}</b></figure>')
    return f'<div class="shots">{"".join(shown)}</div>'


def show_pairs(pairs: Sequence[Pair], classes: Sequence[str], pictures: PictureSource | None) -> str:
    """Return the pairs, each with images of one class and a typical image of the other."""
    return f'<div class="pairs">{"".join(show_pair(pair, classes, pictures) for pair in pairs)}</div>'


def show_pair(pair: Pair, classes: Sequence[str], pictures: PictureSource | None) -> str:
    label, answer = breakable(classes[pair.label]), breakable(classes[pair.predicted])
    times = f"{pair.count} of {pair.images} image{'s' if pair.images != 1 else ''}, {pair.count / pair.images:.0%}"
    times += "; none was classified correctly" if pair.missed else ""
    shots = [(each, f"{label}, called {answer}") for each in pair.examples]
    shots += [(pair.typical, f"a typical {answer}")] if pair.typical else []
    drawn = [(place(image, pictures), caption) for image, caption in shots]
    figures = "".join(f"<figure>{picture}{caption}</figure>" for picture, caption in drawn if picture)
    return f'<div class="pair"><p><b>{label}</b> called <b>{answer}</b>, {times}</p><div>{figures}</div></div>'
