"""Read from Secrets Manager."""

from __future__ import annotations

from typing import Any

from chalicelib.aws.clients import translated


class Secrets:
    """Secrets Manager."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def read(self, secret_id: str) -> str:
        with translated(f"GetSecretValue {secret_id}"):
            return str(self._client.get_secret_value(SecretId=secret_id)["SecretString"])
