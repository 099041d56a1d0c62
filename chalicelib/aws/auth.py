"""Who may come in: bearer tokens, several at a time, each with a name and each to be withdrawn by itself.

They are one secret, {"tokens": {NAME: TOKEN, …}, "default_token": TOKEN}. The second is the one that was generated when
the stack was made (Secrets Manager puts what it generates at the top), and is the token of the name `default`. Each of
the two may be missing. The secret is read on first use and kept for a minute at most, so a withdrawn token opens the
door for a minute longer.
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
    """What holds the secret."""

    def read(self, secret_id: str) -> str:
        """The secret's text."""


class TellsTime(Protocol):
    """A clock, of which only the time is asked."""

    def now(self) -> datetime:
        """The time, in UTC."""


class Tokens:
    """The tokens of one secret."""

    def __init__(self, secrets: SecretReader, secret_id: str, clock: TellsTime) -> None:
        self._secrets = secrets
        self._secret_id = secret_id
        self._clock = clock
        self._tokens: dict[str, str] = {}
        self._read_at: datetime | None = None

    def check(self, authorization: str | None) -> str:
        """The name of the token in an Authorization header. Raises Unauthorized.

        Every token is compared, each in constant time, so that the time taken tells nothing about any of them.
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
    """The tokens in a secret's text. Nothing of the text is in the error: it goes to a log."""
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
