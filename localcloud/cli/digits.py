"""Build the demo's dataset: the 1,797 scanned handwritten digits that scikit-learn ships, as a zip of PNGs.

Of each digit, 70 / 15 / 15 per cent go to train, valid and test, always the same ones. scikit-learn's file is read
without importing scikit-learn, which would take seconds; the 8x8 grey images are written without an imaging library.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import json
import struct
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIDE = 8
BRIGHTEST = 16
NAME = "digits"
# The one place to change what the demo trains. It trains from scratch, so nothing is downloaded. Scans of 8 pixels need
# no large image: six epochs at 24 pixels take hardly longer than four at 32 with batches of 16, and err half as often.
RECIPE: dict[str, Any] = {
    "image_size": 24,
    "pretrained": "none",
    "trials": 4,
    "parallel_trials": 2,
    "epochs": 6,
    "ranges": {"learning_rate": {"min": 0.3, "max": 3}, "batch_size": [32, 64]},
}


def find_source() -> Path:
    """Return the path of scikit-learn's digits. Raises FileNotFoundError where scikit-learn is not installed."""
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise FileNotFoundError("The demo's digits come with scikit-learn, which is not installed. Run: make install")
    return Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"


def read_digits(source: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each digit as its class and its 64 grey values, from 0 (black) to 255 (white), row by row."""
    with gzip.open(source, "rt") as lines:
        for line in lines:
            *values, label = (round(float(value)) for value in line.split(","))
            yield str(label), bytes(value * 255 // BRIGHTEST for value in values)


def draw_png(pixels: bytes, side: int = SIDE) -> bytes:
    """Encode a square grey image as a PNG file: signature, header, one compressed block, end."""
    rows = b"".join(b"\0" + pixels[start : start + side] for start in range(0, side * side, side))
    header = struct.pack("!IIBBBBB", side, side, 8, 0, 0, 0, 0)
    blocks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack("!I", len(body)) + kind + body + struct.pack("!I", zlib.crc32(kind + body)) for kind, body in blocks
    )


def split_class(count: int) -> list[str]:
    """Return the split of each image of a class, in shuffled order."""
    train, valid = round(count * 0.7), round(count * 0.15)
    return ["train"] * train + ["valid"] * valid + ["test"] * (count - train - valid)


def list_pictures(source: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (path in the zip, PNG) for every digit."""
    classes: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
    for number, (label, pixels) in enumerate(read_digits(source)):
        # one writer's digits follow each other in the file, so shuffle them, always in the same way
        mixed = hashlib.sha256(str(number).encode()).hexdigest()
        classes[label].append((f"{mixed}{number:04d}", draw_png(pixels)))
    for label in sorted(classes):
        pictures = sorted(classes[label])
        for split, (mixed, picture) in zip(split_class(len(pictures)), pictures, strict=True):
            yield f"{split}/{label}/{mixed[-4:]}.png", picture


def build_digits_zip(source: Path | None = None) -> bytes:
    """Build the zip; its bytes are the same every time."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, picture in list_pictures(source or find_source()):
            archive.writestr(zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0)), picture)
    return packed.getvalue()


def write_digits_zip(folder: Path) -> Path:
    """Write the zip and its recipe into a folder and return the zip's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}.zip"
    path.write_bytes(build_digits_zip())
    path.with_suffix(".json").write_text(json.dumps(RECIPE, indent=1) + "\n")
    return path
