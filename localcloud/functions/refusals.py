"""Answer in API Gateway's own name, by the gateway responses that the API's template defines.

A response type that the template does not name falls back to DEFAULT_4XX or DEFAULT_5XX, and then to API Gateway's own
answer. AWS does not say which type a call refused by Lambda's concurrency is; the template answers both that it may be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response


@dataclass(frozen=True)
class Refusal:
    """API Gateway's own answer of one type: status, message, and the header x-amzn-ErrorType."""

    status: int
    message: str
    kind: str


REFUSALS = {
    "MISSING_AUTHENTICATION_TOKEN": Refusal(403, "Missing Authentication Token", "MissingAuthenticationTokenException"),
    "REQUEST_TOO_LARGE": Refusal(413, "Request Too Long", "RequestTooLargeException"),
    "INTEGRATION_FAILURE": Refusal(500, "Internal server error", "InternalServerErrorException"),
    "INTEGRATION_TIMEOUT": Refusal(504, "Endpoint request timed out", "IntegrationTimeoutException"),
    "BAD_INTEGRATION_ANSWER": Refusal(502, "Internal server error", "InternalServerErrorException"),  # has no type
}


class Refusals:
    """The refusals of one API. `told` are its gateway responses by type, as a template spells them."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._told = told

    def answer(self, kind: str) -> Response:
        """Build the answer of a type."""
        own = REFUSALS[kind]
        told = self._told.get(kind) or self._told.get(f"DEFAULT_{own.status // 100}XX") or {}
        text = told.get("ResponseTemplates", {}).get("application/json", '{"message":$context.error.messageString}')
        headers = {"x-amzn-ErrorType": own.kind} | {
            name: value.strip("'") for name, value in told.get("ResponseParameters", {}).get("Headers", {}).items()
        }
        body = fill(text, {"messageString": json.dumps(own.message), "message": own.message, "responseType": kind})
        return Response(body, int(told.get("StatusCode", own.status)), headers, "application/json")


def fill(template: str, error: Mapping[str, str]) -> str:
    """Replace the variables $context.error.NAME of a response's template."""
    for name in sorted(error, key=len, reverse=True):  # message is the beginning of messageString
        template = template.replace(f"$context.error.{name}", error[name])
    return template
