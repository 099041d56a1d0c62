"""Check bearer tokens. There may be several at a time; each has a name and can be withdrawn on its own.

All tokens live in one secret, {"tokens": {NAME: TOKEN, …}, "default_token": TOKEN}. Secrets Manager generates
`default_token` when the stack is created, and puts it at the top level; it is the token named `default`. Either member
may be missing. The secret is read on first use and cached for at most a minute, so a withdrawn token keeps working for
up to a minute.
"""

from __future__ import annotations

import hmac
import json
import re
from datetime import datetime, timedelta
from typing import Protocol

from chalicelib.errors import InvalidSettings, Unauthorized

KEPT_FOR = timedelta(seconds=60)
DEFAULT = "default"
BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)


class SecretReader(Protocol):
    """Anything that can read a secret."""

    def read(self, secret_id: str) -> str:
        """Return the secret's text."""


class TellsTime(Protocol):
    """A clock that is only asked for the time."""

    def now(self) -> datetime:
        """Return the current time in UTC."""


class Tokens:
    """The tokens of one secret."""

    def __init__(self, secrets: SecretReader, secret_id: str, clock: TellsTime) -> None:
        self._secrets = secrets
        self._secret_id = secret_id
        self._clock = clock
        self._tokens: dict[str, str] = {}
        self._read_at: datetime | None = None

    def check(self, authorization: str | None) -> str:
        """Return the name of the token in an Authorization header. Raises Unauthorized.

        Every token is compared, each in constant time, so that the time taken reveals nothing about any of them.
        """
        found = BEARER.fullmatch(authorization or "")
        if not found:
            raise Unauthorized("This needs a token. Send the header 'Authorization: Bearer TOKEN'.")
        given = found[1].encode()
        matching = [name for name, token in self._load().items() if hmac.compare_digest(token.encode(), given)]
        if not matching:
            raise Unauthorized("This token is unknown or withdrawn. Ask for another.")
        return matching[0]

    def _load(self) -> dict[str, str]:
        now = self._clock.now()
        if self._read_at is None or not timedelta() <= now - self._read_at < KEPT_FOR:
            self._tokens = _parse(self._secrets.read(self._secret_id), self._secret_id)
            self._read_at = now
        return self._tokens


def _parse(text: str, secret_id: str) -> dict[str, str]:
    """Return the tokens in a secret's text. The error quotes none of the text, because errors are logged."""
    try:
        secret = json.loads(text)
        tokens: dict[str, str] = secret.get("tokens", {}) if "default_token" in secret else secret["tokens"]
        if "default_token" in secret:
            tokens = tokens | {DEFAULT: secret["default_token"]}
        if not all(isinstance(token, str) and token for token in tokens.values()):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidSettings(f'The secret {secret_id} must be JSON: {{"tokens": {{"NAME": "TOKEN"}}}}.') from None
    return tokens
