"""Test that the door refuses headers beyond any length that AWS takes, and bodies that the parser would lose."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from localcloud.server.door import HEAD_BYTES, UPGRADING, Door
from tests.localcloud.hosting import no_sagemaker, serve


def ask(length: int) -> httpx.Response:
    """Return the answer to a request with a header of this many bytes."""
    app: Any = Door(no_sagemaker, 0, ())
    with serve(app) as url:
        return httpx.get(url, headers={"x-long": "x" * length})


def test_headers_have_a_limit() -> None:
    """A shorter request comes in: 418 is what waits behind the door."""
    assert ask(HEAD_BYTES // 2).status_code == 418
    refused = ask(HEAD_BYTES)
    assert refused.status_code in (400, 431)  # 400 from the parser of a uvicorn without httptools


async def repeat(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the request's body."""
    await Response(await Request(scope, receive).body())(scope, receive, send)


@pytest.mark.parametrize("body", [b"", b"an image"])
def test_a_body_is_read_or_refused(body: bytes) -> None:
    """Java's client offers HTTP/2 with each request: its body must not become an empty one, which means another."""
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABk"}
    app: Any = Door(repeat, 0, ())
    with serve(app) as url:
        told = httpx.post(url, content=body, headers=offer)
        assert httpx.post(url, content=body).content == body
    assert (told.status_code, told.content) == (200, body) or (body and told.json() == {"message": UPGRADING})
