"""Answer a request: find its route, and render errors in the one form that every route uses."""

from __future__ import annotations

import os
from typing import Any

from chalice.app import Chalice, Response

from chalicelib import errors
from chalicelib.settings import read_origins
from chalicelib.web import routing

Headers = dict[str, str | list[str]]
JSON: Headers = {"Content-Type": "application/json"}
RETRY_SECONDS = 5


def render_error(error: errors.WhippetError) -> Response:
    """Render an error in the form that every route uses: {"error": {"code", "message"}}."""
    headers: Headers = dict(JSON)
    if isinstance(error, errors.MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    if error.retry_after or error.status == 503:
        headers["Retry-After"] = str(error.retry_after or RETRY_SECONDS)
    return Response({"error": {"code": error.code, "message": error.message}}, headers, error.status)


class App(Chalice):
    """A Chalice app that finds its routes itself, so that a wrong path and a wrong method are told apart."""

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        told, served = event["requestContext"], self.routes
        try:
            found = routing.find_route(told["httpMethod"], told["resourcePath"], read_path(event), served)
        except errors.WhippetError as error:
            return dict(render_error(error).to_dict())
        headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        crossing = routing.allow_origin(found.resource, headers.get("origin"), read_origins(os.environ))
        if found.method == "OPTIONS":
            return dict(Response("", routing.answer_options(served[found.resource], crossing), 204).to_dict())
        told = told | {"httpMethod": found.method, "resourcePath": found.resource}
        parameters = found.parameters or event.get("pathParameters")
        answer: dict[str, Any] = super().__call__(
            event | {"httpMethod": found.method, "requestContext": told, "pathParameters": parameters}, context
        )
        answer["headers"] |= crossing
        return answer | ({"body": ""} if event["requestContext"]["httpMethod"] == "HEAD" else {})


def read_path(event: dict[str, Any]) -> str:
    """Return the path of a request; an event that tells none has it in its context."""
    return str(event.get("path") or event["requestContext"].get("path") or "/")
