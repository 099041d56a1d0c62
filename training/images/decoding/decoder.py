"""Decode an image file to pixels, exactly as the endpoint does for every prediction. Nothing here needs torch.

A contract test compares this with the preprocessing in `inference/`, tensor by tensor: change both or neither.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, features

from images.decoding.repairs import load_image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", *(("AVIF",) if features.check("avif") else ()))
# WebP needs more memory for a pixel while it is decoded; the limit holds for every format but JPEG and PNG.
MAX_PIXELS, MAX_WEBP_PIXELS = 50_000_000, 25_000_000
LEAN_FORMATS = ("JPEG", "MPO", "PNG")
TWELVE_BITS = 4096  # levels
ORIENTATION = 0x0112  # the tag of EXIF
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class UnreadableImage(Exception):
    """The bytes cannot be decoded as an image."""


def choose_resize(image_size: int, crop: int = 224, resize: int = 256) -> int:
    """Choose the length of the shorter side from which the centre is cropped: `resize` for `crop`, as ImageNet's 256.

    Other sizes are in proportion. Small images are not cropped, since every pixel of a digit counts.
    """
    if image_size == crop:
        return resize
    return image_size + 4 * round(image_size * (resize - crop) / crop / 4) if image_size >= 96 else image_size


def open_rgb(data: bytes, glance: int | None = None) -> Image.Image:
    """Decode an image file, or an animation's first frame, to upright RGB; raise UnreadableImage.

    glance: the least side in pixels to which a JPEG may be reduced on the way: faster, but not exactly the same.
    """
    try:
        return flatten(turn_upright(load_image(data, lambda body: decode_file(body, glance))))
    except UnreadableImage:
        raise
    except Exception as error:
        raise UnreadableImage(f"{type(error).__name__}: {error}") from error


def decode_file(data: bytes, glance: int | None = None) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    most = MAX_PIXELS if image.format in LEAN_FORMATS else MAX_WEBP_PIXELS
    if image.width * image.height > most:
        raise UnreadableImage(f"{image.width} x {image.height} pixels are more than {most}")
    if glance:
        image.draft(None, (glance, glance))
    image.load()
    return image


def turn_upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF says. One that is upright is not copied, which takes as long as scaling it."""
    try:
        return image if image.getexif().get(ORIENTATION, 1) == 1 else ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  broken EXIF does not affect the pixels
        return image


def flatten(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB: 16 bits to 8 (`info` says if they were 12), transparency onto white.

    RGB is not copied.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        levels = np.asarray(image)
        image = Image.fromarray(reduce_depth(levels))
        image.info["twelve_bits"] = has_twelve_bits(levels)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def reduce_depth(pixels: np.ndarray) -> np.ndarray:
    """Reduce grey levels of 16 bits to 8, or of 12 bits, as scanners and microscopes put into 16."""
    levels = np.asarray(pixels).astype(np.int64).clip(0, 65535)
    return (levels >> (4 if has_twelve_bits(levels) else 8)).astype(np.uint8)


def has_twelve_bits(levels: np.ndarray) -> bool:
    return bool(255 < levels.max(initial=0) < TWELVE_BITS)


def to_square(image: Image.Image, size: int, interpolation: str = "bilinear") -> np.ndarray:
    """Scale the shorter side to `size`, antialiased, and keep the centre: uint8 of shape (3, size, size).

    Pillow's `box` scales only what is kept, so that an image of 1 by 40,000 stays small on the way; the box lies where
    torchvision's resize and center_crop would put it.
    """
    left, width = place_crop(image.width, min(image.size), size)
    top, height = place_crop(image.height, min(image.size), size)
    box = (left, top, left + width, top + height)
    return np.asarray(image.resize((size, size), FILTERS[interpolation], box=box)).transpose(2, 0, 1)


def place_crop(length: int, shorter: int, size: int) -> tuple[float, float]:
    """Place the centre crop along one side: (start, length) in the pixels of the original image."""
    scaled = int(size * length / shorter)
    begin = round((scaled - size) / 2.0) * length / scaled
    return begin, min(size * length / scaled, length - begin)
