"""Read the images of a prediction request: raw bytes, a multipart form, or JSON. Pure.

The bytes decide what a raw body is; its content type only tells forms and JSON apart. An image that is not acceptable
is not raised but returned as its own error, so that the others of the same request are still answered.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

from chalicelib import errors
from chalicelib.datasets.headers import guess_format, read_header
from chalicelib.models.forms import FORM_TYPE, parse_form

MOST_IMAGES = 16
HEAD = 4096
TEXT = re.compile(rb"[A-Za-z0-9+/_=\s-]*")
JSON_TYPE = "application/json"
BYTES_TYPES = ("application/octet-stream", "binary/octet-stream", "application/x-image", "")
MEMBERS = ("image", "images", "upload")
UNKNOWN = "unknown"
JSON_FORM = "Send one member: 'image' (base64 or a data URL), 'images' (a list of those), or 'upload' (an upload's id)."
EMPTY = "The image is empty. Send the bytes of an image file."


@dataclass(frozen=True)
class Image:
    """One image of a request: its bytes, or the id of an upload, or why it cannot be classified."""

    data: bytes = b""
    upload: str | None = None
    name: str | None = None
    error: errors.WhippetError | None = None


@dataclass(frozen=True)
class Asked:
    """What a request asks to classify. `several`: each image gets a result or an error of its own."""

    images: list[Image]
    several: bool


def read_images(body: bytes, content_type: str, limit: int) -> Asked:
    """Return the images of a request; `limit` is the most bytes that one may have.

    Raises BadRequest for a malformed form or JSON, and UnsupportedMediaType for a body that is neither an image nor
    said to be one.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == FORM_TYPE:
        return read_form(body, content_type, limit)
    if kind == JSON_TYPE or kind.endswith("+json"):
        return read_json(body, limit)
    if not (kind.startswith("image/") and len(kind) > 6) and kind not in BYTES_TYPES and not is_image(body):
        message = f"The content type is {content_type[:80]!r}, and the body is not an image. Send the bytes of an image"
        raise errors.UnsupportedMediaType(f"{message}, {FORM_TYPE} with files, or {JSON_TYPE} with a member 'image'.")
    return Asked([check_image(Image(body), limit)], several=False)


def is_image(data: bytes) -> bool:
    return read_header(data[:HEAD]) is not None


def check_image(image: Image, limit: int) -> Image:
    """Return the image, or the error that its bytes alone already show."""
    size = len(image.data)
    if image.upload is not None or image.error is not None:
        return image
    if not size:
        return Image(name=image.name, error=errors.UnreadableImage(EMPTY))
    if size > limit:
        message = f"The image has {size:,} bytes, and at most {limit:,} fit into a request. Make it smaller, or send it"
        return Image(name=image.name, error=errors.PayloadTooLarge(f"{message} by POST /uploads."))
    if foreign := name_foreign(image.data):
        return Image(name=image.name, error=errors.UnreadableImage(foreign))
    return image


def name_foreign(data: bytes) -> str | None:
    """Say what bytes are that are certainly no image we read, and what to send; None for all others."""
    if is_image(data):
        return None
    if decoded := decode_text(data):
        form = getattr(read_header(decoded[:HEAD]), "format", None) or guess_format(decoded[:HEAD])
        if not form.startswith(UNKNOWN):
            return f"The body is base64 of {form}, not its bytes. Send the bytes, or the text as JSON: member 'image'."
    form = guess_format(data[:HEAD])
    if form.startswith(UNKNOWN):
        return None  # the endpoint decodes it, or says what is wrong
    return f"The body is {form}, not an image that can be read. Send a JPEG, PNG or WebP file."


def decode_text(data: bytes) -> bytes | None:
    """Return what base64 text or a data URL stands for; None for anything else."""
    text = data.partition(b"base64,")[2] if data.lstrip()[:5] == b"data:" else data
    if not TEXT.fullmatch(text[:HEAD]):  # a look at the beginning spares binary bodies a pass over megabytes
        return None
    text = re.sub(rb"\s+", b"", text)
    if len(text) < 16 or not re.fullmatch(rb"[A-Za-z0-9+/_-]+={0,2}", text):
        return None
    try:
        return base64.b64decode(text.replace(b"-", b"+").replace(b"_", b"/") + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def read_json(body: bytes, limit: int) -> Asked:
    """Read `{"image": …}`, `{"images": […]}` or `{"upload": id}`. Raises BadRequest."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise errors.BadRequest(f"The body is not JSON ({str(error)[:80]}). {JSON_FORM}") from error
    given = [name for name in MEMBERS if isinstance(document, dict) and name in document]
    if len(given) != 1:
        raise errors.BadRequest(
            f"The JSON has {' and '.join(given) or 'none'} of the members that are read. {JSON_FORM}"
        )
    value = document[given[0]]
    if given == ["images"]:
        return check_all(read_list(value), limit)
    image = Image(upload=check_upload(value)) if given == ["upload"] else decode_image(value)
    return Asked([check_image(image, limit)], several=False)


def read_list(value: Any) -> list[Image]:
    """Read the member `images`: each is base64, a data URL, or `{"upload": id}`. Raises BadRequest."""
    if not isinstance(value, list):
        raise errors.BadRequest(f"'images' must be a list. {JSON_FORM}")
    return [
        Image(upload=check_upload(each["upload"]))
        if isinstance(each, dict) and "upload" in each
        else decode_image(each)
        for each in value[: MOST_IMAGES + 1]
    ]


def decode_image(value: Any) -> Image:
    """Return the image that base64 or a data URL stands for, or its error."""
    data = decode_text(value.encode("utf-8", "replace")) if isinstance(value, str) else None
    if data is None:
        shown = f"{value[:24]!r}" if isinstance(value, str) else f"a {type(value).__name__}"
        return Image(error=errors.UnreadableImage(f"The image is {shown}, which is not base64 and not a data URL."))
    return Image(data)


def check_upload(value: Any) -> str:
    """Return the id of an upload. Raises BadRequest."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{32}", value):
        raise errors.BadRequest(f"The upload {str(value)[:50]!r} is not an id. POST /uploads returns one as 'id'.")
    return value


def check_all(images: list[Image], limit: int) -> Asked:
    """Check every image of a request that may hold several. Raises BadRequest for none, or too many."""
    if not 1 <= len(images) <= MOST_IMAGES:
        count = "no image" if not images else f"more than {MOST_IMAGES} images"
        raise errors.BadRequest(f"The request has {count}. Send 1 to {MOST_IMAGES}.")
    return Asked([check_image(image, limit) for image in images], several=True)


def read_form(body: bytes, content_type: str, limit: int) -> Asked:
    """Read the files of a multipart form, whatever its fields are called. Raises BadRequest."""
    files = parse_form(body, content_type)
    images = [Image(data, name=name) for name, data in files if name is not None or is_image(data)]
    asked = check_all(images, limit)
    return Asked(asked.images, several=len(images) > 1)
