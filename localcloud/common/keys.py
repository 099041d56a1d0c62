"""Keep a local cloud's own keys: the administrator's access key and the routes' tokens, random at the first start.

Nothing of them is fixed or known elsewhere, so a program that was not given `.localcloud/env` cannot call the cloud.
"""

from __future__ import annotations

import json
import secrets
import string
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from localcloud.common.durable import make_private_folder, read_json, write_whole

TOKEN_NAME = "local"  # noqa: S105  # the name of a token, not one
KEY_ID_CHARACTERS = string.ascii_uppercase + "234567"
KEY_ID_LENGTH = 20  # as AWS's are
NOT_A_ROLE = "AKIA"  # what AWS's long-lived keys begin with; those of a role's session begin with ASIA


@dataclass(frozen=True)
class Credentials:
    """An access key. The token is empty, except for a role's session."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""


def keep_credentials(home: Path) -> Credentials:
    """Return the administrator's access key, which is created at the first start and kept."""
    path = home / "credentials.json"
    held: Credentials | None = read_json(path, lambda told: Credentials(**told))
    if held is None:
        held = generate_credentials()
        write_whole(make_private_folder(home) / path.name, json.dumps(asdict(held)))
    return held


def generate_credentials() -> Credentials:
    """Generate an access key as long as AWS's."""
    tail = "".join(secrets.choice(KEY_ID_CHARACTERS) for _ in range(KEY_ID_LENGTH - len(NOT_A_ROLE)))
    return Credentials(f"{NOT_A_ROLE}{tail}", secrets.token_urlsafe(30))


def keep_tokens(home: Path) -> dict[str, str]:
    """Return the routes' bearer tokens by name, which are created at the first start and kept."""
    path = home / "tokens.json"
    tokens: dict[str, str] | None = read_json(path, _check_tokens)
    if tokens is None:
        tokens = {TOKEN_NAME: secrets.token_urlsafe(24)}
        write_whole(make_private_folder(home) / path.name, json.dumps(tokens))
    return tokens


def _check_tokens(told: Any) -> dict[str, str]:
    if not isinstance(told[TOKEN_NAME], str):
        raise TypeError(f"the token {TOKEN_NAME!r} is not text")
    return dict(told)
