"""Draw images of every kind that people and attackers send."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image


def draw(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Draw a smooth coloured image with some noise, in any mode that Pillow can make from RGB."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[0:height, 0:width]
    waves = [np.sin(across / (7 + 5 * band) + band) * np.cos(down / (11 + 3 * band)) for band in range(3)]
    pixels = np.stack(waves, axis=-1) * 100 + 128 + rng.normal(0, 8, (height, width, 3))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L"), dtype=np.uint16) * 257)
    if mode == "P":
        return image.quantize(64)
    if mode in ("RGBA", "LA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray((across * 255 // max(1, width - 1)).astype(np.uint8)))
        return image
    return image.convert(mode)


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """Encode the image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def make_chunk(kind: bytes, data: bytes, *, checksum: int | None = None) -> bytes:
    """A chunk of a PNG, with a checksum of its own if one is given."""
    right = zlib.crc32(kind + data)
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", right if checksum is None else checksum)


def draw_flaws() -> dict[str, tuple[bytes, bytes]]:
    """Files with a flaw that does not touch their pixels, each with the same image without it."""
    png, jpeg = encode(draw(60, 40)), encode(draw(300, 200), "JPEG", quality=90)
    progressive = encode(draw(300, 200), "JPEG", progressive=True)
    chunks = {
        "large text": make_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_500_000))),
        "large international text": make_chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(1_500_000))),
        "large profile": make_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1_500_000))),
        "text with a wrong checksum": make_chunk(b"tEXt", b"a\0b", checksum=0),
    }
    return {
        **{name: (png[:33] + chunk + png[33:], png) for name, chunk in chunks.items()},
        "no end chunk": (png[:-12], png),
        "JPEG without its end": (jpeg[:-2], jpeg),
        "progressive JPEG without its end": (progressive[:-2], progressive),
        "half an end marker": (jpeg[:-1], jpeg),
    }


def announce_png(width: int, height: int) -> bytes:
    """Return a PNG whose header announces a size, and which ends there."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\x00\x00\x00\x00IEND\xaeB`\x82"


TURNED = Image.Exif()
TURNED[0x0112] = 6
WIDE, WIDE_WEBP = (8_192, 6_100), (8_192, 3_050)
# Of each kind that costs a decoder much, files of a few hundred kilobytes with nearly all the pixels that are let in.
COSTLY: dict[str, Callable[[], bytes]] = {
    "alpha png": lambda: encode(paint(WIDE, "RGBA"), compress_level=1),
    "turned alpha png": lambda: encode(paint(WIDE, "RGBA"), compress_level=1, exif=TURNED),
    "16-bit png": lambda: encode(Image.fromarray(np.full(WIDE[::-1], 3_000, np.uint16)), compress_level=1),
    "png of one row": lambda: encode(paint((49_000_000, 1), "LA"), compress_level=1),
    "turned progressive jpeg": lambda: encode(
        paint(WIDE), "JPEG", progressive=True, subsampling=0, exif=TURNED.tobytes()
    ),
    "progressive cmyk jpeg": lambda: encode(paint(WIDE, "CMYK"), "JPEG", progressive=True, subsampling=0),
    "alpha webp": lambda: encode(paint(WIDE_WEBP, "RGBA"), "WEBP", quality=1, method=0),
}


def paint(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Draw one colour: a file of a few hundred kilobytes then has as many pixels as are accepted."""
    colours = {"RGB": (10, 20, 30), "RGBA": (10, 20, 30, 90), "LA": (10, 90), "CMYK": (10, 20, 30, 40)}
    return Image.new(mode, size, colours[mode])
