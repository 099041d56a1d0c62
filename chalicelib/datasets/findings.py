"""Describe what a check of a dataset found: a code for programs and a message for people."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

EXAMPLES = 3
LONGEST_NAME = 80


@dataclass(frozen=True)
class Finding:
    """A problem or a warning. `path` is the first place where it occurs, `count` how often it does."""

    code: str
    message: str
    path: str | None = None
    count: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def find_among(code: str, names: Iterable[str], what: str, advice: str) -> list[Finding]:
    """Return one finding about all these names with a few as examples, or nothing if there are no names.

    `what` follows the count: "12 entries …".
    """
    found = list(names)
    if not found:
        return []
    message = f"{count_of(len(found), what)}: {list_some(found)}. {advice}"
    return [Finding(code, message, quote_plain(found[0]), len(found))]


def list_some(names: Collection[str], most: int = EXAMPLES) -> str:
    """List the first few names in quotes and the number of the others."""
    shown = ", ".join(quote(name) for _, name in zip(range(most), names, strict=False))
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def count_of(number: int, what: str) -> str:
    """Return `1 entry is` or `2 entries are`: the count with the matching half of `what`."""
    singular, _, plural = what.partition("|")
    return f"{number:,} {singular if number == 1 or not plural else plural}"


def quote(name: str) -> str:
    """Quote a name for a message: control characters escaped, at most a line long."""
    return repr(shorten(name))


def quote_plain(name: str) -> str:
    return repr(shorten(name))[1:-1]


def quote_bytes(raw: bytes) -> str:
    """Quote bytes for a message: text as text, anything else in hexadecimal."""
    text = raw.decode("utf-8", errors="replace")
    if text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text:
        return quote(text)
    return f"the bytes {raw.hex(' ')}"


def shorten(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME // 2]}…{name[-LONGEST_NAME // 2 + 1 :]}"
