"""Reading images: every kind is understood, and a hostile one is refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from preprocessing import decode_image, scale_and_crop
from refusals import Refusal

from tests.support.image_kinds import announce_png, draw, encode

ANIMATED = [draw(40, 30, seed=seed) for seed in range(3)]
READABLE = {
    "jpeg": encode(draw(60, 40), "JPEG"),
    "grey jpeg": encode(draw(60, 40, "L"), "JPEG"),
    "cmyk jpeg": encode(draw(60, 40, "CMYK"), "JPEG"),
    "png": encode(draw(60, 40)),
    "16-bit png": encode(draw(60, 40, "I;16")),
    "palette png": encode(draw(60, 40, "P")),
    "palette png with transparency": encode(draw(60, 40, "P"), transparency=3),
    "rgb png with a transparent colour": encode(draw(60, 40), transparency=(0, 0, 0)),
    "bilevel png": encode(draw(60, 40, "1")),
    "alpha png": encode(draw(60, 40, "RGBA")),
    "grey alpha png": encode(draw(60, 40, "LA")),
    "webp": encode(draw(60, 40), "WEBP"),
    "alpha webp": encode(draw(60, 40, "RGBA"), "WEBP"),
    "gif": encode(draw(60, 40, "P"), "GIF"),
    "bmp": encode(draw(60, 40), "BMP"),
    "tiff": encode(draw(60, 40), "TIFF"),
}
WHOLE_JPEG = encode(draw(300, 200), "JPEG")
REFUSED = {
    "text": b"this is no picture",
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "truncated jpeg": WHOLE_JPEG[: len(WHOLE_JPEG) // 2],
    "truncated png": encode(draw(60, 40))[:200],
    "truncated webp": encode(draw(60, 40), "WEBP")[:100],
    "jpeg header alone": WHOLE_JPEG[:20],
    "png with a broken checksum": encode(draw(60, 40)).replace(b"IDAT", b"IDAX"),
    "900 megapixels by header": announce_png(30_000, 30_000),
    "60 megapixels by header": announce_png(10_000, 6_000),
    "no width": announce_png(0, 10),
}


@pytest.mark.parametrize("kind", READABLE)
def test_every_kind_becomes_8_bit_rgb(kind: str) -> None:
    """Whatever the file holds, the network sees three channels of eight bits at the image's own size."""
    image = decode_image(READABLE[kind])
    assert (image.mode, image.size) == ("RGB", (60, 40))


@pytest.mark.parametrize("kind", ["16-bit png", "cmyk jpeg", "webp", "palette png", "grey alpha png"])
def test_the_picture_survives_its_encoding(kind: str) -> None:
    """No conversion turns the image white, black or inverted: it correlates with the one that was drawn."""
    seen = np.asarray(decode_image(READABLE[kind]).convert("L"), dtype=float)[:, 30:]
    drawn = np.asarray(draw(60, 40, "L"), dtype=float)[:, 30:]
    assert np.corrcoef(seen.ravel(), drawn.ravel())[0, 1] > 0.8


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_are_white(mode: str) -> None:
    """Where the alpha channel is zero the image is white, whatever colour lies beneath."""
    image = decode_image(encode(draw(60, 40, mode)))
    assert image.getpixel((0, 20)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_an_animation_shows_its_first_frame(kind: str) -> None:
    """The first frame of an animated WebP or PNG is classified."""
    data = encode(ANIMATED[0], kind, save_all=True, append_images=ANIMATED[1:], lossless=True)
    assert np.array_equal(np.asarray(decode_image(data)), np.asarray(ANIMATED[0]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    """A camera's rotation flag is applied: orientations 5 to 8 swap width and height."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_image(encode(draw(60, 40), "JPEG", exif=exif))
    assert image.size == ((60, 40) if orientation < 5 else (40, 60))


def test_broken_exif_does_not_lose_the_picture() -> None:
    """Unreadable EXIF is ignored, since the pixels are fine."""
    image = decode_image(encode(draw(60, 40), "JPEG", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff garbage"))
    assert image.size == (60, 40)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused(kind: str) -> None:
    """Status 422, and a message that tells the sender what to do."""
    with pytest.raises(Refusal) as caught:
        decode_image(REFUSED[kind])
    assert caught.value.status_code == 422
    assert "Send" in str(caught.value) or "Shrink" in str(caught.value)


@given(data=st.binary(max_size=400), cut=st.integers(0, 2000), kind=st.sampled_from(["jpeg", "png", "webp"]))
def test_no_bytes_crash_the_reader(data: bytes, cut: int, kind: str) -> None:
    """Garbage spliced into a sound file is read or refused; no other error comes out."""
    sound = READABLE[kind]
    try:
        mode = decode_image(sound[:cut] + data + sound[cut + len(data) :]).mode
    except Refusal:
        mode = "refused"
    assert mode in ("RGB", "refused")


@given(width=st.integers(1, 300), height=st.integers(1, 300), size=st.sampled_from([(72, 64), (64, 64), (256, 224)]))
def test_any_shape_fills_the_square(width: int, height: int, size: tuple[int, int]) -> None:
    """Every aspect ratio, down to one pixel, gives the square that the network expects."""
    resize_size, image_size = size
    square = scale_and_crop(Image.new("RGB", (width, height)), resize_size, image_size)
    assert square.size == (image_size, image_size)


def test_a_thread_of_pixels_costs_no_memory() -> None:
    """An image of 1 by 200,000 pixels is scaled only where it is kept: both the result and the way to it are small."""
    assert scale_and_crop(Image.new("RGB", (1, 200_000), "red"), 256, 224).getcolors() == [(224 * 224, (255, 0, 0))]
