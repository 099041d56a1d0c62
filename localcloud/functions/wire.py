"""Carry the functions' predictions to the local cloud over connections of this module's own.

The app calls boto3 as ever, and boto3 builds, signs and parses as ever. Only the bytes take another way than through
urllib3 and http.client, which write a request's head and body apart and parse an answer's head as an e-mail: an eighth
of what the app's route adds to a prediction (measured). Errors are the SDK's own, so the app sees no difference.
"""

from __future__ import annotations

import io
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from localcloud.common.heads import read_head, read_headers, write_head

CALL = "sagemaker-runtime.InvokeEndpoint"
PIECE = 1 << 16


class Wire:
    """The open connections of a process, for any number of its threads."""

    def __init__(self) -> None:
        self._idle: list[socket.socket] = []
        self._call = threading.local()

    def attach(self, events: Any) -> None:
        """Send the predictions of all clients that get these events."""
        events.register(f"before-call.{CALL}", self._prepare)
        events.register(f"before-send.{CALL}", self._send)

    def _prepare(self, context: dict[str, Any], **_named: Any) -> None:
        self._call.seconds = context["client_config"].read_timeout

    def _send(self, request: AWSPreparedRequest, **_named: Any) -> AWSResponse | None:
        address = urlsplit(request.url)
        if address.scheme != "http" or not isinstance(request.body, bytes):
            return None
        connection = self._take(address, request.url)
        try:
            connection.settimeout(self._call.seconds)
            connection.sendall(write_request(request, address))
            status, headers, body = read_answer(connection)
        except TimeoutError as error:
            connection.close()
            raise ReadTimeoutError(endpoint_url=request.url, error=error) from error
        except (OSError, EOFError, LookupError, ValueError) as error:
            connection.close()
            raise ConnectionClosedError(endpoint_url=request.url, request=request, error=error) from error
        self._idle.append(connection)
        return AWSResponse(request.url, status, headers, Body(body))

    def _take(self, address: SplitResult, url: str) -> socket.socket:
        """Return a connection that the cloud has not closed meanwhile, or a new one."""
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if not select.select([connection], [], [], 0)[0]:
                    return connection
                connection.close()
        try:
            connection = socket.create_connection((address.hostname, address.port or 80), 3)
        except OSError as error:
            raise EndpointConnectionError(endpoint_url=url, error=error) from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


class Body(io.BytesIO):
    """An answer's body as the SDK reads it."""

    def stream(self) -> Iterator[bytes]:
        yield self.read()


def write_request(request: AWSPreparedRequest, address: SplitResult) -> bytes:
    """Return a request as it is sent: in one piece, since the server begins to work at the first one."""
    body: bytes = request.body
    headers = read_headers(request.headers)
    headers.pop("content-length", None)  # the head has the body's own
    return write_head(address.netloc, address.path, body, headers) + body


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Return the status, the headers and the body of an answer. Raises EOFError where it is not whole."""
    sent = bytearray()
    while (end := sent.find(b"\r\n\r\n")) < 0:
        receive(connection, sent)
    status, headers = read_head(bytes(sent[:end]))
    whole = end + 4 + int(headers["content-length"])
    while len(sent) < whole:
        receive(connection, sent)
    return status, headers, bytes(sent[end + 4 : whole])


def receive(connection: socket.socket, sent: bytearray) -> None:
    if not (piece := connection.recv(PIECE)):
        raise EOFError("the local cloud has closed the connection")
    sent += piece
