"""Test that the door refuses headers beyond any length that AWS takes."""

from __future__ import annotations

from typing import Any

import httpx

from localcloud.server.door import HEAD_BYTES, Door
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
