"""Serve the page: its files, sent as they stand in `site/`, and the headers under which browsers run them.

The content security policy lets the page load only what this app serves and run no inline script. The page may talk to
two origins: its own, and the bucket's, to which datasets are uploaded.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from chalicelib.errors import NotFound

FOLDER = Path(__file__).with_name("site")
INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
}


def read_file(name: str) -> str:
    """Return one of the page's files: `app.js`, `run/view.js`. Raises NotFound."""
    if name not in list_files():
        raise NotFound(f"The page has no file {name[:80]!r}.")
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def list_files() -> frozenset[str]:
    """List the page's files by their paths below its folder."""
    return frozenset(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.suffix in TYPES)


def describe_file(name: str, *origins: str) -> dict[str, str | list[str]]:
    """Return the headers of one of the page's files; `origins` are those it may talk to besides its own."""
    policy = POLICY | {"connect-src": " ".join([POLICY["connect-src"], *origins])}
    return {
        "Content-Type": TYPES[Path(name).suffix],
        "Content-Security-Policy": "; ".join(f"{directive} {value}" for directive, value in policy.items()),
        "Cache-Control": "no-cache",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
