"""Run a WSGI application inside an ASGI server with what S3 needs: the path as it was sent, and bodies as files.

Starlette's own bridge decodes the path, which loses an encoded slash in a key, and holds every body in memory. Here a
request's body beyond 64 MiB goes to a temporary file, and an answer's body is sent piece by piece.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from tempfile import SpooledTemporaryFile
from typing import IO, Any
from urllib.parse import unquote_to_bytes

from starlette.types import Receive, Scope, Send

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
WsgiApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
SPOOL_BYTES = 64 << 20  # moto reads a whole body into memory: for a model's weights, a file would be two more copies


def make_environ(
    method: str, raw_path: str, query: str, headers: Iterable[tuple[str, str]], body: IO[bytes], size: int
) -> Environ:
    """Build a request's WSGI environment. RAW_URI carries the path as it was sent; moto's S3 reads keys from it."""
    environ: Environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(raw_path).decode("latin1"),
        "RAW_URI": raw_path + (f"?{query}" if query else ""),
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_LENGTH": str(size),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in headers:
        key = name.upper().replace("-", "_")
        if key == "CONTENT_TYPE":
            environ[key] = value
        elif key not in ("CONTENT_LENGTH", "TRANSFER_ENCODING"):
            key = f"HTTP_{key}"
            environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


def call(app: WsgiApp, environ: Environ) -> tuple[str, Headers, Iterable[bytes]]:
    """Call a WSGI application and return its status line, its headers and its body."""
    started: list[tuple[str, Headers]] = []
    body = app(environ, lambda status, headers, _error=None: started.append((status, headers)))
    status, headers = started[-1]
    return status, headers, body


def answer_json(start_response: Any, body: Any, status: str = "200 OK") -> Iterable[bytes]:
    """Answer in the JSON protocols' form."""
    sent = json.dumps(body).encode()
    headers = [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(sent)))]
    start_response(status, headers)
    return [sent]


def refuse_json(start_response: Any, message: str) -> Iterable[bytes]:
    """Answer that the local cloud does not do this, so that clients report it and do not retry."""
    return answer_json(start_response, {"__type": "NotInTheLocalCloud", "message": message}, "400 Bad Request")


class WsgiBridge:
    """A WSGI application as an ASGI application; each request runs on a thread of the pool."""

    def __init__(self, app: WsgiApp, pool: Executor, extra: Mapping[str, Any]) -> None:
        self._app, self._pool, self._extra = app, pool, extra

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with SpooledTemporaryFile(max_size=SPOOL_BYTES) as body:
            size = await _receive_body(receive, body)
            body.seek(0)
            environ = make_environ(
                scope["method"], _raw_path(scope), scope["query_string"].decode("latin1"), _headers(scope), body, size
            )
            environ |= self._extra
            run = asyncio.get_running_loop().run_in_executor
            status, headers, pieces = await run(self._pool, call, self._app, environ)
            start = {"type": "http.response.start", "status": int(status[:3]), "headers": _encode(headers)}
            await send(start)
            iterator = iter(pieces)
            while (piece := await run(self._pool, next, iterator, None)) is not None:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _receive_body(receive: Receive, body: Any) -> int:
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client went away before its body was complete")
        piece: bytes = message.get("body", b"")
        body.write(piece)
        size += len(piece)
        if not message.get("more_body", False):
            return size


def _raw_path(scope: Scope) -> str:
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    return path.split(b"?", 1)[0].decode("latin1")


def _headers(scope: Scope) -> Headers:
    return [(name.decode("latin1"), value.decode("latin1")) for name, value in scope["headers"]]


def _encode(headers: Mapping[str, str] | Headers) -> list[tuple[bytes, bytes]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(name.lower().encode("latin1"), value.encode("latin1", "replace")) for name, value in pairs]
