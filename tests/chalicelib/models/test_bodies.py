"""What a prediction request may hold: raw bytes, a form, JSON; and how each that cannot be read is refused."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import errors
from chalicelib.models.bodies import MOST_IMAGES, Asked, read_images
from tests.support.hostile.images import draw

PNG, JPEG = draw(), draw("JPEG")
LIMIT = 100_000


def read(body: bytes, kind: str = "") -> Asked:
    return read_images(body, kind, LIMIT)


def make_form(*files: tuple[str | None, bytes], boundary: str = "x-1") -> tuple[bytes, str]:
    """Return a form's body and content type; a file without a name is a plain field."""
    parts = []
    for name, data in files:
        told = f'; filename="{name}"' if name is not None else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"{told}\r\n\r\n'
        parts.append(head.encode() + data + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def send_json(document: object) -> Asked:
    return read(json.dumps(document).encode(), "application/json; charset=utf-8")


USUAL = [
    "image/jpeg", "image/jpg", "image/pjpeg", "image/x-png", "image/webp", "IMAGE/PNG", "image/png; charset=binary",
    "application/octet-stream", "binary/octet-stream", "application/x-image", "", "application/x-www-form-urlencoded",
]  # fmt: skip


@pytest.mark.parametrize("kind", USUAL)
def test_raw_bytes_are_taken_under_any_usual_type(kind: str) -> None:
    """Clients name images in many ways, or not at all; curl calls any body a form. The bytes decide."""
    asked = read(JPEG, kind)
    assert [(image.data, image.error) for image in asked.images] == [(JPEG, None)]
    assert not asked.several


@pytest.mark.parametrize("kind", ["text/html", "text/plain", "application/xml", "image", "video/mp4"])
def test_a_body_that_neither_is_nor_claims_to_be_an_image_is_refused(kind: str) -> None:
    """The message names the forms that are read."""
    with pytest.raises(errors.UnsupportedMediaType, match="multipart/form-data with files, or application/json"):
        read(b"hello, dog", kind)


def test_base64_in_a_raw_body_is_said_to_be_so() -> None:
    """Whole, wrapped in lines, in the URL alphabet, or as a data URL: the error names what it stands for."""
    text = base64.b64encode(PNG)
    for body in (text, base64.encodebytes(PNG), base64.urlsafe_b64encode(PNG), b"data:image/png;base64," + text):
        (image,) = read(body, "image/png").images
        assert isinstance(image.error, errors.UnreadableImage)
        assert "base64 of" in image.error.message
        assert "as JSON" in image.error.message


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"\0\0\0\x1cftypheic" + bytes(40), "HEIC"),
        (b"%PDF-1.7", "PDF"),
        (b"<html>", "web page"),
        (b"PK\x03\x04", "zip"),
    ],
)
def test_foreign_formats_are_named_by_their_bytes(data: bytes, named: str) -> None:
    """Whatever their content type says."""
    (image,) = read(data, "image/jpeg").images
    assert isinstance(image.error, errors.UnreadableImage)
    assert named in image.error.message


def test_a_form_gives_its_files_in_order_with_their_names() -> None:
    """Fields of text beside them are passed over; bytes with line breaks and dashes arrive unchanged."""
    odd = b"\x89PNG\r\n\x1a\n--x-1 \r\n--x\r\n\0" * 9
    asked = read(*make_form(("a.jpg", JPEG), (None, b"a comment"), ("ü.png", odd)))
    assert [(image.name, image.data) for image in asked.images] == [("a.jpg", JPEG), ("ü.png", odd)]
    assert asked.several


def test_a_form_with_one_file_is_one_image() -> None:
    """Its error is the request's."""
    assert not read(*make_form(("a.jpg", JPEG))).several


@pytest.mark.parametrize("count", [0, MOST_IMAGES + 1])
def test_a_request_has_one_to_sixteen_images(count: int) -> None:
    """More or fewer are refused, in a form and in JSON."""
    with pytest.raises(errors.BadRequest, match="1 to 16"):
        read(*make_form(*[("a.jpg", JPEG)] * count))
    with pytest.raises(errors.BadRequest, match="1 to 16"):
        send_json({"images": [base64.b64encode(JPEG).decode()] * count})


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=other"])
def test_a_form_that_cannot_be_read_is_refused(kind: str) -> None:
    """Without its boundary, or with another."""
    with pytest.raises(errors.BadRequest):
        read(make_form(("a.jpg", JPEG))[0], kind)


def test_a_form_that_is_cut_off_is_refused() -> None:
    """Half an upload is not taken for a whole image."""
    body, kind = make_form(("a.jpg", JPEG))
    with pytest.raises(errors.BadRequest, match="cut off"):
        read(body[:-20], kind)


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_json_holds_one_image(prefix: str) -> None:
    """As base64 or as a data URL."""
    asked = send_json({"image": prefix + base64.b64encode(PNG).decode()})
    assert [image.data for image in asked.images] == [PNG]
    assert not asked.several


def test_json_holds_several_images_and_uploads() -> None:
    """Each bad one keeps its place with an error of its own."""
    text = base64.b64encode(PNG).decode()
    asked = send_json({"images": [text, "not base64!", 7, {"upload": "a" * 32}, ""]})
    assert [type(image.error).__name__ for image in asked.images] == [
        "NoneType", "UnreadableImage", "UnreadableImage", "NoneType", "UnreadableImage",
    ]  # fmt: skip
    assert asked.images[3].upload == "a" * 32


@pytest.mark.parametrize(
    "document",
    [{}, [], 3, None, {"image": "a", "upload": "b"}, {"images": "x"}, {"upload": "../../runs"}, {"upload": 5}],
)
def test_json_without_exactly_one_readable_member_is_refused(document: object) -> None:
    """The message shows the forms."""
    with pytest.raises(errors.BadRequest):
        send_json(document)


def test_deep_json_is_refused() -> None:
    """A hundred thousand brackets are no reason to fail."""
    with pytest.raises(errors.BadRequest, match="not JSON"):
        read(b"[" * 100_000, "application/json")


def test_an_image_too_large_for_a_request_is_told_where_to_go() -> None:
    """In a raw body, and beside others in JSON, which are kept."""
    large = base64.b64encode(PNG + bytes(LIMIT)).decode()
    images = [*read(PNG + bytes(LIMIT)).images, *send_json({"images": [large, base64.b64encode(PNG).decode()]}).images]
    assert [type(image.error).__name__ for image in images] == ["PayloadTooLarge", "PayloadTooLarge", "NoneType"]
    assert "POST /uploads" in images[0].error.message


@given(st.binary(max_size=300), st.sampled_from(["", "application/json", "multipart/form-data; boundary=x", "text/x"]))
def test_no_body_makes_the_door_fail(body: bytes, kind: str) -> None:
    """Whatever comes is read, or refused with one of our errors."""
    with contextlib.suppress(errors.BadRequest, errors.UnsupportedMediaType):
        assert read(body, kind).images
