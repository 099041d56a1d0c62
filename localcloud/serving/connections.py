"""Send requests to model servers over connections that stay open.

The servers are this project's own and speak plain HTTP/1.1 on loopback, with a Content-Length in every answer, so a
few lines of asyncio do what a general client takes a millisecond for.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from localcloud.common.heads import read_head, write_head

# Shorter than the servers' own keep-alive, so that no request meets a connection that is just being closed.
IDLE_SECONDS = 60
HEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class Reply:
    """A server's answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Connection:
    """An open connection to a server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    idle_since: float = 0.0

    def is_usable(self) -> bool:
        """Return whether the server has not closed it, and will not soon."""
        return time.monotonic() - self.idle_since < IDLE_SECONDS and not self.reader.at_eof()

    async def exchange(self, head: bytes, body: bytes) -> Reply:
        """Send a request and return the answer."""
        self.writer.writelines((head, body))
        await self.writer.drain()
        status, headers = read_head(await self.reader.readuntil(b"\r\n\r\n"))
        return Reply(status, headers, await self.reader.readexactly(int(headers["content-length"])))


class Connections:
    """The open connections to all servers, by port. It belongs to one event loop."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._idle: dict[int, list[Connection]] = defaultdict(list)

    async def post(self, port: int, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send a request. Raises ConnectionError if the server does not answer it whole."""
        connection = None
        try:
            connection = self._take(port) or Connection(
                *await asyncio.open_connection(self._host, port, limit=HEAD_BYTES)
            )
            reply = await connection.exchange(write_head(f"{self._host}:{port}", path, body, headers), body)
        except BaseException as error:
            if connection is not None:
                connection.writer.close()
            if isinstance(error, OSError | EOFError | asyncio.LimitOverrunError | LookupError | ValueError):
                raise ConnectionError(str(error)) from error
            raise
        self._give_back(port, connection, reply)
        return reply

    def _take(self, port: int) -> Connection | None:
        """Return an idle connection to a server, or None. Then all connections are looked through."""
        idle = self._idle.get(port, [])
        while idle:
            if (connection := idle.pop()).is_usable():
                return connection
            connection.writer.close()
        self._close_useless()
        return None

    def _close_useless(self) -> None:
        for port, connections in list(self._idle.items()):
            for connection in [each for each in connections if not each.is_usable()]:
                connections.remove(connection)
                connection.writer.close()
            if not connections:
                del self._idle[port]

    def _give_back(self, port: int, connection: Connection, reply: Reply) -> None:
        if reply.headers.get("connection", "").lower() == "close":
            connection.writer.close()
            return
        connection.idle_since = time.monotonic()
        self._idle[port].append(connection)
