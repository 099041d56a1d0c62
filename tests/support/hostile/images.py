"""List bad and odd requests to `POST /models/NAME/predict`, each with the answer that a user must get.

A case does not know how it is sent. Whoever runs the cases supplies a token of each kind and a model in each state, and
sends `build()` with the content type and the query; `status`, `code` and `retry_after` say what must be returned.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from PIL import Image

Token = Literal["good", "none", "wrong", "withdrawn", "malformed"]
State = Literal["served", "unknown", "creating", "failed"]
LARGEST = 4_000_000  # bytes of a picture that a serverless endpoint takes; Lambda would take 4.4 MB


@dataclass(frozen=True)
class Prediction:
    """A request and its answer.

    `code` is None if there is none to compare: for an answer with predictions, and if the gateway may refuse before the
    app does. `by_container` says that only the model's container can detect it. `predictions` is the largest number of
    classes that may be returned.
    """

    status: int
    code: str | None = None
    build: Callable[[], bytes] = lambda: draw()
    token: Token = "good"
    model: State = "served"
    content_type: str = "image/png"
    query: str = ""
    by_container: bool = False
    retry_after: bool = False
    predictions: int | None = None


@cache
def draw(form: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> bytes:
    """Draw an image of stripes."""
    image = Image.linear_gradient("L").resize(size)
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, form)
    return buffer.getvalue()


def draw_animation(form: str) -> bytes:
    frames = [Image.new("RGB", (20, 20), (shade, 0, 0)) for shade in (0, 120, 240)]
    buffer = io.BytesIO()
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:], duration=50)
    return buffer.getvalue()


def draw_turned() -> bytes:
    """Draw a JPEG whose EXIF orientation says that it lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.linear_gradient("L").save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def announce_png(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that claims to have this size."""
    header = b"IHDR" + struct.pack(">2L5B", width, height, 8, 2, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n" + struct.pack(">L", 13) + header + struct.pack(">L", zlib.crc32(header))
    return body + b"\0\0\0\0IEND\xaeB`\x82"


def pad(size: int) -> bytes:
    """Return a real image with bytes after its end, `size` in all."""
    return draw("JPEG").ljust(size, b"\0")


CASES: dict[str, Prediction] = {
    # who asks
    "no token": Prediction(401, "Unauthorized", token="none"),
    "wrong token": Prediction(401, "Unauthorized", token="wrong"),
    "withdrawn token": Prediction(401, "Unauthorized", token="withdrawn"),
    "malformed header": Prediction(401, "Unauthorized", token="malformed"),
    "no token, unknown model": Prediction(401, "Unauthorized", token="none", model="unknown"),
    # which model
    "unknown model": Prediction(404, "ModelNotFound", model="unknown"),
    "endpoint creating": Prediction(503, "ModelNotReady", model="creating", retry_after=True),
    "endpoint failed": Prediction(409, "EndpointFailed", model="failed"),
    # what is sent
    "empty body": Prediction(422, "UnreadableImage", build=lambda: b""),
    "text": Prediction(422, "UnreadableImage", build=lambda: b"hello, dog", by_container=True),
    "web page": Prediction(422, "UnreadableImage", build=lambda: b"<html>404</html>", by_container=True),
    "truncated JPEG": Prediction(
        422,
        "UnreadableImage",
        build=lambda: draw("JPEG", size=(300, 300))[:900],
        content_type="image/jpeg",
        by_container=True,
    ),
    "truncated PNG": Prediction(422, "UnreadableImage", build=lambda: draw(size=(300, 300))[:300], by_container=True),
    "header of 30,000 x 30,000": Prediction(
        422, "UnreadableImage", build=lambda: announce_png(30_000, 30_000), by_container=True
    ),
    "HEIC that says it is a PNG": Prediction(
        422, "UnreadableImage", build=lambda: b"\0\0\0\x18ftypheic" + bytes(400), by_container=True
    ),
    "a byte more than fits": Prediction(
        413, "PayloadTooLarge", build=lambda: pad(LARGEST + 1), content_type="image/jpeg"
    ),
    "5 MB": Prediction(413, build=lambda: pad(5_000_000), content_type="image/jpeg"),
    # what it is called
    "animated GIF": Prediction(200, build=lambda: draw_animation("GIF"), content_type="image/gif"),
    "HEIC": Prediction(
        422,
        "UnreadableImage",
        build=lambda: b"\0\0\0\x18ftypheic" + bytes(400),
        content_type="image/heic",
        by_container=True,
    ),
    "JSON": Prediction(400, "BadRequest", build=lambda: b"{}", content_type="application/json"),
    "a form": Prediction(
        400, "BadRequest", build=lambda: b"--x\r\n\r\n--x--", content_type="multipart/form-data; boundary=x"
    ),
    "no such type": Prediction(415, "UnsupportedMediaType", build=lambda: b"hello", content_type="image"),
    "an image of no such type": Prediction(200, content_type="image"),
    # how many classes
    "top of nothing": Prediction(400, "BadRequest", query="top="),
    "top of zero": Prediction(400, "BadRequest", query="top=0"),
    "top below zero": Prediction(400, "BadRequest", query="top=-1"),
    "top in words": Prediction(400, "BadRequest", query="top=five"),
    "top in foreign digits": Prediction(400, "BadRequest", query="top=%D9%A3"),
    "top beyond counting": Prediction(400, "BadRequest", query="top=99999999999999999999"),
    # odd, and served
    "more classes than there are": Prediction(200, query="top=1000"),
    "one class": Prediction(200, query="top=1", predictions=1),
    "1 x 1": Prediction(200, build=lambda: draw(size=(1, 1))),
    "1 x 3000": Prediction(200, build=lambda: draw(size=(1, 3000))),
    "CMYK": Prediction(200, build=lambda: draw("JPEG", "CMYK"), content_type="image/jpeg"),
    "16 bits": Prediction(200, build=lambda: draw(mode="I;16")),
    "one bit": Prediction(200, build=lambda: draw(mode="1")),
    "palette": Prediction(200, build=lambda: draw(mode="P")),
    "see-through": Prediction(200, build=lambda: draw(mode="LA")),
    "lying on its side": Prediction(200, build=draw_turned, content_type="image/jpeg"),
    "WebP": Prediction(200, build=lambda: draw("WEBP"), content_type="image/webp"),
    "animated WebP": Prediction(200, build=lambda: draw_animation("WEBP"), content_type="image/webp"),
    "PNG that says it is a JPEG": Prediction(200, content_type="image/jpeg"),
    "type with parameters": Prediction(200, content_type="image/png; charset=binary"),
    "type in capitals": Prediction(200, content_type="IMAGE/PNG"),
    "bytes of no stated kind": Prediction(200, content_type="application/octet-stream"),
}
