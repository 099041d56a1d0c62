"""Test that a prediction over the functions' own connections is the one that the SDK makes over its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from localcloud.functions.wire import Wire

BODY = bytes(range(256)) * 300
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n[1, 2.5]"
ERROR = b'{"Code": "ModelError", "OriginalStatusCode": 415, "OriginalMessage": "no image"}'
FAILED = b"HTTP/1.1 424 X\r\nx-amzn-ErrorType: ModelError\r\nContent-Length: %d\r\n\r\n%b" % (len(ERROR), ERROR)


class Server:
    """Answers every request with the same bytes, piece by piece, and keeps what it got by connection."""

    def __init__(self, *pieces: bytes, closes: bool = False) -> None:
        self.pieces, self.closes = pieces, closes
        self.heard: list[list[bytes]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        try:
            while True:
                connection, _ = self.listener.accept()
                self.heard.append([])
                threading.Thread(target=self.talk, args=(connection, self.heard[-1]), daemon=True).start()
        except OSError:
            return

    def talk(self, connection: socket.socket, heard: list[bytes]) -> None:
        with connection, connection.makefile("rb") as sent:
            while head := b"".join(takewhile(lambda line: line.strip(), iter(sent.readline, b""))):
                heard.append(head + sent.read(len(BODY)))
                for piece in self.pieces:
                    connection.sendall(piece)
                if self.closes or not self.pieces:
                    return


@contextmanager
def serve(*pieces: bytes, closes: bool = False) -> Iterator[Server]:
    server = Server(*pieces, closes=closes)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield server
    server.listener.shutdown(socket.SHUT_RDWR)
    server.listener.close()
    thread.join()


def connect(url: str, *, wired: bool, seconds: float = 5) -> Any:
    """Return a client that tries once, with the SDK's connections or with ours."""
    session = boto3.Session("key", "secret", region_name="us-east-1")
    if wired:
        Wire().attach(session.events)
    config = Config(read_timeout=seconds, retries={"total_max_attempts": 1})
    return session.client("sagemaker-runtime", endpoint_url=url, config=config)


def predict(client: Any) -> Any:
    return client.invoke_endpoint(EndpointName="dogs", Body=BODY, ContentType="image/jpeg", Accept="application/json")


@pytest.fixture(params=[False, True], ids=["sdk", "wire"])
def wired(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_the_answer_arrives_whole(wired: bool) -> None:
    """In however many pieces it comes. The request is signed, and has the body behind its head."""
    with serve(OK[:10], OK[10:-3], OK[-3:]) as server:
        answer = predict(connect(server.url, wired=wired))
        assert (answer["Body"].read(), answer["ContentType"]) == (b"[1, 2.5]", "application/json")
    head, body = server.heard[0][0].split(BODY[:4], 1)
    names = {line.split(b":")[0].lower() for line in head.splitlines()[1:]}
    assert head.startswith(b"POST /endpoints/dogs/invocations HTTP/1.1\r\n")
    assert {b"host", b"authorization", b"x-amz-date", b"content-length", b"content-type", b"accept"} <= names
    assert BODY[:4] + body == BODY


def test_a_refusal_is_the_sdks_error(wired: bool) -> None:
    """With the members that the service sent."""
    with serve(FAILED) as server, pytest.raises(ClientError) as raised:
        predict(connect(server.url, wired=wired))
    told = raised.value.response
    assert (told["Error"]["Code"], told["OriginalStatusCode"]) == ("ModelError", 415)


def test_a_server_that_hangs_up_is_the_sdks_error(wired: bool) -> None:
    """Nobody answers in its place."""
    with serve() as server, pytest.raises(ConnectionClosedError):
        predict(connect(server.url, wired=wired))


@pytest.mark.parametrize("sent", [OK[:20], OK[:-1], b"no HTTP at all\r\n\r\n"])
def test_half_an_answer_is_none(sent: bytes) -> None:
    """The SDK itself passes on some of them."""
    with serve(sent, closes=True) as server, pytest.raises(ConnectionClosedError):
        predict(connect(server.url, wired=True))


def test_a_silent_server_is_the_sdks_error(wired: bool) -> None:
    """After the client's own time."""
    with serve(b"HTTP/1.1 ") as server, pytest.raises(ReadTimeoutError):
        predict(connect(server.url, wired=wired, seconds=0.1))


def test_a_server_that_is_not_there_is_the_sdks_error(wired: bool) -> None:
    """Its name and port are in the message."""
    with serve(OK) as server:
        url = server.url
    with pytest.raises(EndpointConnectionError, match=url):
        predict(connect(url, wired=wired))


@pytest.mark.parametrize(("closes", "connections"), [(False, 1), (True, 3)])
def test_a_connection_is_used_again_while_it_is_open(*, closes: bool, connections: int) -> None:
    """One that the server has closed meanwhile is replaced, and nobody sees an error."""
    with serve(OK, closes=closes) as server:
        client = connect(server.url, wired=True)
        for _ in range(3):
            assert predict(client)["Body"].read() == b"[1, 2.5]"
            if closes:
                threading.Event().wait(0.05)
    assert len(server.heard) == connections
