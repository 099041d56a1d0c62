"""Turn the bytes of an image into the array that the network was trained on.

The steps are those of the training's evaluation, and a contract test compares the two pixel by pixel: orientation by
EXIF, eight bits a channel, transparency onto white, RGB; the shorter side scaled to `resize_size`
(antialiased), the centre `image_size` square cut out; values to [0, 1], then normalised.

Pillow's `box` scales only the square whose side is the image's shorter one, so an image of 1 by 40,000 is never scaled
to 256 by ten million in between. The centre is cut out of the scaled square, as in training: scaling only the centre
gives other pixels by a grey level, and moved probabilities by 0.01.

A pixel costs four bytes in Pillow, so nothing is copied that need not be: an endpoint's memory is reckoned with the
costliest image that is let in (chalicelib/recipes/serving_memory.py). Colours are converted tile by tile. The decoder
of WebP holds two canvases and its result beside the image, so fewer pixels of it are let in, and of the other formats.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageOps, features
from refusals import refuse_image
from repairs import load_image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", *(("AVIF",) if features.check("avif") else ()))
# WebP needs more memory for a pixel while it is decoded; the limit holds for every format but JPEG and PNG.
MAX_PIXELS, MAX_WEBP_PIXELS = 50_000_000, 25_000_000
LEAN_FORMATS = ("JPEG", "MPO", "PNG")
TILE = 1 << 20  # pixels that are converted at a time
ORIENTATION = 0x0112  # the tag of EXIF
TWELVE_BITS = 4096  # levels
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
SHOWN = (112, 224)  # pixels of the square that is shown to people, at least and at most
_WHITE = (255, 255, 255, 255)


def decode_image(data: bytes) -> Image.Image:
    """Read an image of one of FORMATS (the first frame of an animation) as upright 8-bit RGB.

    Raises Refusal (422) if the bytes are none of these or are broken, or if their header announces more than 50
    megapixels (25 unless it is a JPEG or PNG); the header is checked before anything is decoded.
    """
    try:
        image = load_image(data, _load)
    except Image.DecompressionBombError as error:
        raise refuse_image(f"The image has too many pixels: {error} Send a smaller one.") from error
    except Image.UnidentifiedImageError as error:
        raise refuse_image("The body is not a JPEG, PNG or WebP image. Send the bytes of an image file.") from error
    # Pillow's decoders raise almost any exception on hostile bytes: OSError, SyntaxError, ValueError, struct.error, …
    except (OSError, SyntaxError, ValueError, ArithmeticError, LookupError, TypeError, EOFError) as error:
        raise refuse_image(f"The image is damaged or cut off ({error}). Send the whole file.") from error
    image = _turn_upright(image)  # the name is used again, so that what was decoded is freed
    return convert_to_rgb(image)


def _load(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    _refuse_huge(image)
    image.load()
    return image


def _refuse_huge(image: Image.Image) -> None:
    width, height = image.size
    most = MAX_PIXELS if image.format in LEAN_FORMATS else MAX_WEBP_PIXELS
    if width * height > most:
        limit = most // 1_000_000
        raise refuse_image(f"The image is {width} x {height} pixels; at most {limit} megapixels are read. Shrink it.")


def _turn_upright(image: Image.Image) -> Image.Image:
    try:
        upright = image.getexif().get(ORIENTATION, 1) == 1
        return image if upright else ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - broken EXIF says nothing about the pixels, which are fine
        return image


def convert_to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode that Pillow decodes to 8-bit RGB, with transparent parts on white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    converted, shift = Image.new("RGB", image.size), _choose_shift(image)
    for left, top, right, bottom in _list_tiles(*image.size):
        converted.paste(_convert_tile(image.crop((left, top, right, bottom)), shift), (left, top))
    return converted


def _list_tiles(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (left, top, right, bottom) of tiles that cover an image, as wide as can be."""
    step = min(width, TILE)
    rows = max(1, TILE // step)
    for top in range(0, height, rows):
        for left in range(0, width, step):
            yield left, top, min(left + step, width), min(top + rows, height)


def _choose_shift(image: Image.Image) -> int:
    """Return the bits to drop from 16: levels below 4,096 alone are the 12 bits of a scanner or a microscope."""
    highest = image.getextrema()[1] if image.mode.startswith("I") else 0
    return 4 if isinstance(highest, int) and 255 < highest < TWELVE_BITS else 8


def _convert_tile(image: Image.Image, shift: int) -> Image.Image:
    if image.mode.startswith("I"):
        image = _reduce_to_8_bits(image, shift)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image).convert("RGB")
    return image.convert("RGB")


def _reduce_to_8_bits(image: Image.Image, shift: int) -> Image.Image:
    # Pillow's own conversion from 16 bits clips at 255, which turns almost every image white.
    return Image.fromarray((np.asarray(image, dtype=np.int64).clip(0, 65535) >> shift).astype(np.uint8))


def make_array(
    image: Image.Image,
    *,
    resize_size: int,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: str = "bilinear",
) -> np.ndarray:
    """Turn an RGB image into the network's input: float32, 3 × image_size × image_size, normalised by channel."""
    square = scale_and_crop(image, resize_size, image_size, interpolation)
    pixels = np.array(square, dtype=np.float32, order="C").transpose(2, 0, 1).copy()
    pixels /= np.float32(255)
    pixels -= np.array(mean, np.float32)[:, None, None]
    pixels /= np.array(std, np.float32)[:, None, None]
    return pixels


def scale_and_crop(
    image: Image.Image, resize_size: int, image_size: int, interpolation: str = "bilinear"
) -> Image.Image:
    """Scale the shorter side to `resize_size` and keep the centre `image_size` square, placed as in training."""
    left, width = _place_square(image.width, min(image.size), resize_size)
    top, height = _place_square(image.height, min(image.size), resize_size)
    box = (left, top, left + width, top + height)
    square = image.resize((resize_size, resize_size), FILTERS[interpolation], box=box)
    edge = round((resize_size - image_size) / 2.0)
    return square.crop((edge, edge, edge + image_size, edge + image_size))


def show_square(image: Image.Image, resize_size: int, image_size: int) -> Image.Image:
    """Return the square that the network sees, of the image's own pixels."""
    left, width = _place_square(image.width, min(image.size), resize_size)
    top, height = _place_square(image.height, min(image.size), resize_size)
    edge = round((resize_size - image_size) / 2.0) / resize_size
    kept, side = image_size / resize_size, min(max(SHOWN[0], image_size), SHOWN[1])
    box = (left + edge * width, top + edge * height, left + (edge + kept) * width, top + (edge + kept) * height)
    return image.resize((side, side), FILTERS["bilinear"], box=box)


def _place_square(length: int, shorter: int, resize_size: int) -> tuple[float, float]:
    """Return where the square begins along one side, and its length, both in pixels of the original image."""
    scaled = int(resize_size * length / shorter)
    start = round((scaled - resize_size) / 2.0) * length / scaled
    return start, min(resize_size * length / scaled, length - start)
