"""An uploaded image is fetched from the app's own bucket, and from no other place."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fetching import fetch_image
from refusals import Refusal

from inference import input_fn
from tests.support.image_kinds import draw, encode

JPEG = encode(draw(30, 20), "JPEG")
LIMIT = 100_000


class Bucket(BaseHTTPRequestHandler):
    """A bucket with one image, one object too large, one that failed, and one that sends its reader elsewhere."""

    def do_GET(self) -> None:
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "/image")
            self.end_headers()
            return
        status = {"/image": 200, "/large": 200, "/broken": 500, "/expired": 403}.get(self.path, 404)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(bytes(LIMIT + 1) if self.path == "/large" else JPEG)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def name(url: object) -> bytes:
    return json.dumps({"url": url}).encode()


@pytest.mark.parametrize("as_text", [False, True])
def test_an_image_of_the_bucket_is_fetched(origin: str, as_text: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By input_fn, whether the server hands it bytes or, as AWS's does for JSON, text."""
    monkeypatch.setenv("UPLOADS_ORIGIN", origin)
    body = name(f"{origin}/image")
    assert input_fn(body.decode() if as_text else body, "application/json").size == (30, 20)


@pytest.mark.parametrize("other", ["http://127.0.0.1:1/image", "http://169.254.169.254/", "file:///etc/passwd", 7, ""])
def test_no_other_place_is_asked(origin: str, other: object) -> None:
    """Not another port or host, and no file; nor any, where no bucket is named."""
    with pytest.raises(Refusal) as refusal:
        fetch_image(name(other), origin, LIMIT)
    assert refusal.value.status_code == 400
    with pytest.raises(Refusal):
        fetch_image(name(f"{origin}/image"), "", LIMIT)


@pytest.mark.parametrize(
    "trick", ["{origin}@evil.example/image", "{origin}.evil.example/", "{origin}:80@evil.example/"]
)
def test_a_name_that_begins_like_the_bucket_is_another_place(origin: str, trick: str) -> None:
    """The whole of scheme, host and port is compared."""
    with pytest.raises(Refusal, match="not one of this app's bucket"):
        fetch_image(name(trick.format(origin=origin)), origin, LIMIT)


@pytest.mark.parametrize(
    ("path", "status"), [("/gone", 404), ("/expired", 404), ("/broken", 502), ("/elsewhere", 502), ("/large", 413)]
)
def test_what_cannot_be_fetched_is_told(origin: str, path: str, status: int) -> None:
    """A redirect is not followed, and more bytes than an endpoint takes are not kept."""
    with pytest.raises(Refusal) as refusal:
        fetch_image(name(f"{origin}{path}"), origin, LIMIT)
    assert refusal.value.status_code == status


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b"\xff", '{"link": "x"}'])
def test_json_without_a_url_is_refused(body: bytes | str, origin: str) -> None:
    """400, with the form that is read."""
    with pytest.raises(Refusal, match="url") as refusal:
        fetch_image(body, origin, LIMIT)
    assert refusal.value.status_code == 400
