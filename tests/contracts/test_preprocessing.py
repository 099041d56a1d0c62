"""Training's evaluation and the endpoint see the same picture: the contract between two units that share no code.

Both scale the same square with Pillow and cut the same centre out of it, so the tensors are equal bit by bit. Scaling
only the part that is kept gives pixels that differ by a grey level or two, which moved probabilities by 0.01.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.image_kinds import draw, draw_flaws, encode

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "training"), str(ROOT / "inference")]

import images.pixels as training  # noqa: E402 - the folders are flat: they can be imported only once they are on the path
import preprocessing as inference  # noqa: E402

EXIF_TURNED = Image.Exif()
EXIF_TURNED[0x0112] = 6
FLAWS = draw_flaws()


def draw_twelve_bits() -> Image.Image:
    return Image.fromarray((np.asarray(draw(301, 207, "I;16")) >> 4).astype(np.uint16))


PICTURES = {
    "jpeg": encode(draw(500, 375), "JPEG"),
    "grey jpeg": encode(draw(375, 500, "L"), "JPEG"),
    "cmyk jpeg": encode(draw(300, 200, "CMYK"), "JPEG"),
    "turned jpeg": encode(draw(500, 375), "JPEG", exif=EXIF_TURNED),
    "large jpeg": encode(draw(3000, 2000), "JPEG"),
    "16-bit png": encode(draw(301, 207, "I;16")),
    "bilevel png": encode(draw(301, 207, "1")),
    "palette png": encode(draw(301, 207, "P")),
    "palette png with transparency": encode(draw(301, 207, "P"), transparency=3),
    "transparent colour": encode(draw(301, 207), transparency=(0, 0, 0)),
    "alpha png": encode(draw(301, 207, "RGBA")),
    "grey alpha png": encode(draw(301, 207, "LA")),
    "webp": encode(draw(640, 480), "WEBP"),
    "animated webp": encode(draw(64, 48), "WEBP", save_all=True, append_images=[draw(64, 48, seed=1)]),
    "one pixel": encode(Image.new("RGB", (1, 1), "teal")),
    "a digit": encode(draw(8, 8, "L")),
    "gif": encode(draw(301, 207, "P"), "GIF"),
    "bmp": encode(draw(301, 207), "BMP"),
    "tiff": encode(draw(301, 207), "TIFF"),
    "12 bits in a 16-bit png": encode(draw_twelve_bits()),
    **{name: flawed for name, (flawed, _) in FLAWS.items()},
}


def see_as_training(data: bytes, image_size: int) -> torch.Tensor:
    """The tensor (3, n, n) on which training's evaluation judges a picture."""
    square = torch.from_numpy(training.to_square(training.open_rgb(data), training.choose_resize(image_size)).copy())
    return training.normalise(training.crop_centre(square[None], image_size))[0]


def see_as_endpoint(data: bytes, image_size: int) -> torch.Tensor:
    """The tensor (3, n, n) on which the endpoint judges it, with what training writes into the manifest."""
    image = inference.decode_image(data)
    size = training.choose_resize(image_size)
    names = {"resize_size": size, "image_size": image_size, "mean": training.MEAN, "std": training.STD}
    return torch.from_numpy(inference.make_array(image, **names))


def compare(data: bytes, image_size: int) -> None:
    ours, theirs = see_as_endpoint(data, image_size), see_as_training(data, image_size)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("image_size", [32, 64, 96, 128, 160, 224, 299])
@pytest.mark.parametrize("kind", PICTURES)
def test_both_see_the_same_picture(kind: str, image_size: int) -> None:
    """Every mode and format gives the same tensor on both sides, bit by bit."""
    compare(PICTURES[kind], image_size)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    mode=st.sampled_from(["RGB", "L", "RGBA", "I;16", "P"]),
    image_size=st.sampled_from([64, 96, 224]),
)
def test_both_see_the_same_picture_of_any_size(width: int, height: int, mode: str, image_size: int) -> None:
    """No width and height, however odd, shifts the crop on one side alone."""
    if max(width, height) <= 20 * min(width, height):
        compare(encode(draw(width, height, mode)), image_size)


def test_the_repairs_are_the_same_text() -> None:
    """Both units repair the same flaws: a change to one is a change to both."""
    one, two = (
        (ROOT / folder / "repairs.py").read_text(encoding="utf-8")
        for folder in ("training/images/decoding", "inference")
    )
    assert one == two


@pytest.mark.parametrize("name", FLAWS)
def test_a_flaw_beside_the_pixels_changes_nothing(name: str) -> None:
    """An image with a flaw that does not touch its pixels is read, with the pixels of the whole file."""
    flawed, whole = FLAWS[name]
    assert training.open_rgb(flawed).tobytes() == training.open_rgb(whole).tobytes()


@pytest.mark.parametrize("missing", [8, 40, 150, 1_000, 5_000])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 95}])
def test_a_jpeg_that_lacks_pixels_is_not_repaired(missing: int, options: dict[str, int]) -> None:
    """Only the end marker may be missing: bytes of the image itself may not."""
    whole = encode(draw(300, 200), "JPEG", **options)
    for see in (training.open_rgb, inference.decode_image):
        with pytest.raises(Exception, match=r"truncated|broken"):
            see(whole[:-missing])


def test_twelve_bits_fill_the_range() -> None:
    """Levels below 4,096 in a file of 16 bits are scaled by their own range, and it is told."""
    wide, narrow = (
        training.open_rgb(encode(draw(301, 207, "I;16"))),
        training.open_rgb(PICTURES["12 bits in a 16-bit png"]),
    )
    assert np.abs(np.asarray(wide, dtype=int) - np.asarray(narrow, dtype=int)).max() <= 1
    assert (wide.info.get("twelve_bits"), narrow.info.get("twelve_bits")) == (False, True)
