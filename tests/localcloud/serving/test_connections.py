"""Connections to model servers: what is sent and read, and what becomes of a server that ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from localcloud.serving.connections import Connections, Reply

HOST = "127.0.0.1"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def ask(*, times: int, answer: bytes, after: bytes = b"") -> tuple[list[Reply], list[bytes]]:
    """Send requests one after another to a server that gives one answer and then `after`, which may end it.

    Returns the replies, and the requests by connection.
    """
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(b"")
        number = len(heard) - 1
        while head := await read_request(reader):
            heard[number] += head
            writer.write(answer)
            if after == b"close":
                break
        writer.close()

    async def run() -> list[Reply]:
        server = await asyncio.start_server(talk, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        connections, replies = Connections(HOST), []
        for _ in range(times):
            replies.append(await connections.post(port, "/invocations", b"body", {"content-type": "image/jpeg"}))
            await asyncio.sleep(0.01)
        server.close()
        return replies

    return asyncio.run(run()), heard


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Return a request, or nothing at the connection's end."""
    try:
        return await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(4)
    except (asyncio.IncompleteReadError, asyncio.CancelledError):
        return b""


def test_requests_share_a_connection() -> None:
    """The second request is sent over the first one's connection, whole and with its headers."""
    replies, heard = ask(times=2, answer=OK)
    assert [(reply.status, reply.body, reply.headers["content-type"]) for reply in replies] == [
        (200, b"hello", "text/plain")
    ] * 2
    assert len(heard) == 1
    assert heard[0].count(b"POST /invocations HTTP/1.1\r\n") == 2
    assert b"content-length: 4\r\ncontent-type: image/jpeg\r\n\r\nbody" in heard[0]


def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    """A server may end between two requests: the next one goes over a new connection."""
    replies, heard = ask(times=3, answer=OK, after=b"close")
    assert len(replies) == len(heard) == 3


def test_a_server_that_says_close_is_believed() -> None:
    """It would not read a second request."""
    _, heard = ask(times=2, answer=OK.replace(b"Content-Type: text/plain", b"Connection: close"))
    assert len(heard) == 2


@pytest.mark.parametrize(
    "answer", [b"", OK[:-2], OK[:20], b"no HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", bytes(200_000)]
)
def test_an_answer_that_is_cut_or_wrong_is_a_connection_error(answer: bytes) -> None:
    """Nothing of it is passed on."""
    with pytest.raises(ConnectionError):
        ask(times=1, answer=answer, after=b"close")


def test_no_server_is_a_connection_error() -> None:
    """So is a port at which nobody listens."""
    with pytest.raises(ConnectionError):
        asyncio.run(Connections(HOST).post(1, "/invocations", b"", {}))
