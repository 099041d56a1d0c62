"""Write docs/errors.md: every error of the API, when it happens and what to do, from chalicelib/errors.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chalicelib.errors import WhippetError

ERRORS_PAGE = Path(__file__).parents[1] / "errors.md"
HEAD = """# Every error and what to do

An error of the API is `{"error": {"code", "message"}}` with the status below. Its message says what is wrong with your
request and what to do about it; this page says what to do in general. `whippet` prints the message and ends with code 1
(3 if the token is refused, 4 if nobody answers).

`python -m docs.drawing` writes this page from `chalicelib/errors.py`, and a test fails when the two differ.

| code | status | when | what to do |
|---|---|---|---|
"""
TAIL = """
What is wrong with a **dataset** stands in its report, with the file and the remedy: [the list of checks](datasets.md).
What a **training** complains about stands in its log's last lines and in the run's reason. What `make deploy` and
`make weights` refuse, they explain themselves: [On AWS](aws.md), [weights](weights.md).
"""


def list_errors(kind: type[WhippetError] = WhippetError) -> Iterator[type[WhippetError]]:
    """Yield the classes of the tree in its order: a parent before its children."""
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == WhippetError.__module__:
            yield from list_errors(child)


def write_errors() -> str:
    """Return the page."""
    rows = (
        f"| `{kind.__name__}` | {kind.status} | {' '.join((kind.__doc__ or '').split())} | {kind.remedy} |\n"
        for kind in sorted(list_errors(), key=lambda kind: kind.status)
    )
    return HEAD + "".join(rows) + TAIL
