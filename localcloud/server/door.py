"""Let in only requests that this machine's own programs and the app's own page send.

A web page that is open in the user's browser is a stranger: its requests reach a loopback port like anybody's. They
carry its Origin, and where it has its own name resolved to 127.0.0.1 (DNS rebinding), its Host. Both are looked at
before anything else, and the answer names no origin, so that the browser hides it, and sends nothing after a preflight.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OWN_NAMES = ("127.0.0.1", "localhost")
HEAD_BYTES = 1 << 16  # AWS's services take less; the server's parser itself knows no limit
# Java's client offers HTTP/2 with its first request, and the server's parser takes what follows for another protocol's.
UPGRADING = "This server speaks HTTP/1.1: send a body without the header Upgrade (in Java: version(HTTP_1_1))."


class Door:
    """An ASGI application in front of another. Pages of the ports in `pages` may send requests to it.

    So may pages of the origins in `friends`; with `signed_only` just to put an object to a signed URL.
    """

    def __init__(
        self,
        app: ASGIApp,
        port: int,
        pages: Collection[int],
        friends: Collection[str] = (),
        *,
        signed_only: bool = False,
    ) -> None:
        self._app, self._port, self._friends, self._signed_only = app, port, friends, signed_only
        self._origins = {f"http://{name}:{page}" for name in OWN_NAMES for page in {port, *pages}}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (reason := self._find_fault(scope)):
            await JSONResponse({"message": reason}, 403)(scope, receive, send)
            return
        if scope["type"] == "http" and measure_head(scope) > HEAD_BYTES:
            await JSONResponse({"message": "The request's headers are too long."}, 431)(scope, receive, send)
            return
        if scope["type"] == "http" and loses_body(scope):
            await JSONResponse({"message": UPGRADING}, 400, {"connection": "close"})(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _find_fault(self, scope: Scope) -> str | None:
        """Return why a request may not come in, or None."""
        own = f"http://{OWN_NAMES[0]}:{self._port}"
        hosts, origins = list_values(scope, b"host"), list_values(scope, b"origin")
        if len(hosts) != 1 or strip_port(hosts[0]) not in OWN_NAMES:
            return f"The Host {', '.join(hosts)[:80]!r} is not this machine's own. Use {own}."
        known = {*self._origins, f"http://{hosts[0]}", *(self._friends if self._may_befriend(scope) else ())}
        if strangers := [each for each in origins if each not in known]:
            return f"Pages of {strangers[0][:80]!r} may send nothing here. The local cloud's own page is all that may."
        return None

    def _may_befriend(self, scope: Scope) -> bool:
        return not self._signed_only or (
            scope["method"] in ("PUT", "OPTIONS") and b"X-Amz-Signature=" in scope["query_string"]
        )


def read_friends(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the origins of other sites whose pages may upload and predict, as the app's own setting lists them."""
    return tuple(each.strip() for each in environ.get("CORS_ORIGINS", "").split(",") if each.strip())


def list_values(scope: Scope, name: bytes) -> list[str]:
    """Return the values of a header, in lower case."""
    return [value.decode("latin1").strip().lower() for key, value in scope["headers"] if key == name]


def loses_body(scope: Scope) -> bool:
    """Return whether a request has a body that the server's parser does not read as one."""
    if not list_values(scope, b"upgrade"):
        return False
    has_body = list_values(scope, b"transfer-encoding") or any(map(int, list_values(scope, b"content-length")))
    return bool(has_body) and any("upgrade" in value for value in list_values(scope, b"connection"))


def measure_head(scope: Scope) -> int:
    """Return the bytes of a request's address and headers."""
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return headers + len(scope.get("raw_path") or b"") + len(scope["query_string"])


def strip_port(host: str) -> str:
    """Return a Host without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
