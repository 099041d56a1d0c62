"""Read the heads of HTTP answers, for the local cloud's own clients, which need no more of HTTP."""

from __future__ import annotations


def read_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of an answer's head."""
    first, *lines = head.decode("latin1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}
