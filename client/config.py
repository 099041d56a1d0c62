"""Where the API is and what token it takes: the environment's, or what `whippet login` kept."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

DEFAULT_URL = "http://127.0.0.1:8000/api"


@dataclass(frozen=True)
class Login:
    """An API's URL without a slash at its end, and a token."""

    url: str
    token: str


class NotLoggedIn(Exception):
    """Neither the environment nor a file says which token to send."""


def find_file(environ: Mapping[str, str]) -> Path:
    """Return the file that keeps the login: ~/.config/whippet/login.json, or below XDG_CONFIG_HOME."""
    base = environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "whippet" / "login.json"


def read_login(environ: Mapping[str, str]) -> Login:
    """Return the login: API_URL and API_TOKEN come before the file. Raises NotLoggedIn."""
    path, kept = find_file(environ), {}
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
    url = environ.get("API_URL") or kept.get("url") or DEFAULT_URL
    token = environ.get("API_TOKEN") or kept.get("token")
    if not token:
        raise NotLoggedIn(f"There is no token for {url}. Run 'whippet login', or set API_URL and API_TOKEN.")
    return Login(url.rstrip("/"), clean_token(token))


def clean_token(text: str) -> str:
    """Return a token as it was meant: people paste the whole header, or the address that `make up` prints."""
    text = text.rpartition("#token=")[2]
    return text.strip().removeprefix("Authorization:").strip().removeprefix("Bearer ").strip()


def write_login(login: Login, environ: Mapping[str, str]) -> Path:
    """Keep a login in a file that only its owner can read. Returns its path."""
    path = find_file(environ)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(login), file)
    path.chmod(0o600)
    return path
