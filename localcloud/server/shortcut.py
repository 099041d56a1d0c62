"""Serve the cloud's own uploads to S3 in this process: the same signed request, without a socket between.

A job's model is tens of megabytes, and a tuning job uploads one for every trial. Through the loopback interface such a
request costs twice the processor time, while the next trial waits for its core.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from starlette.types import ASGIApp, Message, Scope

from localcloud.common.heads import read_headers

log = logging.getLogger(__name__)
PIECE = 8 << 20  # bytes of a body in memory at a time


class Answer:
    """Collects what an ASGI application sends, in the form of the SDK's response."""

    def __init__(self) -> None:
        self.status, self.headers, self._body = 500, dict[str, str](), io.BytesIO()

    async def take(self, message: Message) -> None:
        """Take the start of a response, or a piece of its body."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode("latin1"): value.decode("latin1") for name, value in message["headers"]}
        else:
            self._body.write(message.get("body", b""))

    def stream(self) -> Iterator[bytes]:
        """Yield the whole body, as the SDK reads it from its connection."""
        yield self._body.getvalue()


def deliver(app: ASGIApp, request: AWSPreparedRequest) -> AWSResponse:
    """Answer an upload. An exception becomes a 500, as a server makes of it, which the SDK tries again."""
    answer = Answer()
    try:
        asyncio.run(_serve(app, request, answer))
    except Exception:
        log.exception("%s %s failed", request.method, request.url)
        answer = Answer()
    return AWSResponse(request.url, answer.status, answer.headers, answer)


async def _serve(app: ASGIApp, request: AWSPreparedRequest, answer: Answer) -> None:
    body = request.body if hasattr(request.body, "read") else io.BytesIO(request.body or b"")
    missing = int(request.headers.get("Content-Length", 0))

    async def receive() -> Message:
        nonlocal missing
        piece = body.read(PIECE)
        missing -= len(piece)
        if not piece and missing > 0:  # a file became shorter: a server would wait for the rest until the client left
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    await app(describe(request), receive, answer.take)


def describe(request: AWSPreparedRequest) -> Scope:
    """Return the ASGI scope that a server would make of a request from this machine."""
    parts = urlsplit(request.url)
    sent = {"host": parts.netloc, **read_headers(request.headers)}
    return {
        "type": "http",
        "http_version": "1.1",
        "scheme": parts.scheme,
        "method": request.method,
        "path": unquote(parts.path),
        "raw_path": parts.path.encode("ascii"),
        "query_string": parts.query.encode("ascii"),
        "headers": [(name.encode("latin1"), value.encode("latin1")) for name, value in sent.items()],
        "client": ("127.0.0.1", 0),
    }
