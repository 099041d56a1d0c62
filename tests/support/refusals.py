"""Build the error that boto3 raises when AWS refuses a call."""

from __future__ import annotations

from botocore.exceptions import ClientError


def refuse(message: str, code: str = "ValidationException") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")
