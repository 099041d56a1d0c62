"""Repair image files that Pillow refuses for a flaw that does not touch their pixels.

These are a PNG's texts and colour profile that are too large or have a wrong checksum, and a JPEG that lacks only its
end marker. `inference/repairs.py` and `training/images/decoding/repairs.py` are the same text, which a test compares.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"
JPEG, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
FILLER = b"\x2a\x55\x93\x5c" * 64  # any bits but zeros, which a decoder itself puts in the place of what is missing
DISPENSABLE = {b"tEXt", b"zTXt", b"iTXt", b"iCCP"}  # PNG chunks that say nothing about the pixels
ROWS = 64  # that are hashed at a time, to save memory

Load = Callable[[bytes], Image.Image]


def load_image(data: bytes, load: Load) -> Image.Image:
    """Decode an image; if that fails, try without a flaw that does not touch its pixels."""
    try:
        return load(data)
    except (OSError, SyntaxError, ValueError):
        repaired = repair(data, load)
        if repaired is None:
            raise
        return load(repaired)


def repair(data: bytes, load: Load) -> bytes | None:
    """Return a file without such a flaw, or None if it has none."""
    if data.startswith(PNG):
        return strip_png(data)
    if data.startswith(JPEG) and not data.endswith(JPEG_END):
        data = data.removesuffix(JPEG_END[:1])
        return data + JPEG_END if lacks_only_end(data, load) else None
    return None


def strip_png(data: bytes) -> bytes | None:
    """Return a PNG without its texts and colour profile, or None if it has none."""
    kept, position = [data[:8]], 8
    while position + 8 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] not in DISPENSABLE:
            kept.append(data[position:end])
        position = end
    return b"".join(kept) if sum(map(len, kept)) < len(data) else None


def lacks_only_end(data: bytes, load: Load) -> bool:
    """Return whether a JPEG's pixels do not depend on what might follow: then nothing but its end is missing."""
    try:
        return hash_pixels(load(data + JPEG_END)) == hash_pixels(load(data + FILLER + JPEG_END))
    except (OSError, SyntaxError, ValueError):
        return False


def hash_pixels(image: Image.Image) -> bytes:
    digest = hashlib.blake2b()
    for top in range(0, image.height, ROWS):
        digest.update(image.crop((0, top, image.width, min(top + ROWS, image.height))).tobytes())
    return digest.digest()
