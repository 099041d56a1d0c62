"""Write and read the heads of HTTP requests and answers, for the local cloud's own clients: no more of it is needed."""

from __future__ import annotations

from collections.abc import Mapping


def write_head(host: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return the head of a POST request."""
    lines = [f"POST {path} HTTP/1.1", f"host: {host}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin1") + b"\r\n\r\n"


def read_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of an answer's head."""
    first, *lines = head.decode("latin1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}


def read_headers(signed: Mapping[str, str | bytes]) -> dict[str, str]:
    """Return the headers of the SDK's request, whose signer makes bytes of some, with their names in lower case."""
    pairs = ((name.lower(), value) for name, value in signed.items())
    return {name: value.decode("latin1") if isinstance(value, bytes) else str(value) for name, value in pairs}
