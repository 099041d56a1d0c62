"""Find the route of a request, and tell a wrong path from a wrong method, which API Gateway does not. Pure.

The API passes every path and method on. HEAD is answered where GET is, a trailing slash makes no difference, and
OPTIONS is answered without a token, for browsers that ask whether they may send a request from another site's page.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from chalicelib.errors import MethodNotAllowed, NotFound

CATCH_ALL = "/{proxy+}"
CROSS_ORIGIN = ("/models/{name}/predict", "/uploads", "/uploads/{id}", "/uploads/{id}/complete")
PREFLIGHT_SECONDS = 600


@dataclass(frozen=True)
class Found:
    """A route, the method under which it is served, and its path's parameters, still percent-encoded."""

    resource: str
    method: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def find_route(method: str, resource: str, path: str, routes: Mapping[str, Collection[str]]) -> Found:
    """Return the route of a request among {resource: methods}: the gateway's, or what the path is without its slash.

    Raises NotFound and MethodNotAllowed.
    """
    if resource in routes and resource != CATCH_ALL:
        return Found(resource, choose_method(method, path, routes[resource]))
    wanted = path if path == "/" else path.rstrip("/")
    for known in sorted(routes, key=lambda each: (each.count("{"), each)):
        match = None if known == CATCH_ALL else compile_path(known).fullmatch(wanted)
        if match:
            return Found(known, choose_method(method, path, routes[known]), match.groupdict())
    raise NotFound(f"There is no route {path[:200]!r}. GET /openapi.json lists them.")


def compile_path(resource: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(resource)))


def choose_method(method: str, path: str, served: Collection[str]) -> str:
    """Return the method under which a request is served. Raises MethodNotAllowed, which names those that are."""
    asked = "GET" if method == "HEAD" else method
    if asked in served or asked == "OPTIONS":
        return asked
    allowed = list_allowed(served)
    raise MethodNotAllowed(f"{path[:200]} does not serve {method}. It serves {', '.join(allowed)}.", allowed=allowed)


def list_allowed(served: Collection[str]) -> list[str]:
    """List the methods that a client may send to a route."""
    return sorted({*served, "OPTIONS", *(["HEAD"] if "GET" in served else [])})


def allow_origin(resource: str, origin: str | None, origins: Collection[str]) -> dict[str, str]:
    """Return the headers with which a browser lets another site's page read the answer; none for any other origin."""
    if resource not in CROSS_ORIGIN or origin is None or origin not in origins:
        return {}
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": "Retry-After", "Vary": "Origin"}


def answer_options(served: Collection[str], allowed: Mapping[str, str]) -> dict[str, str | list[str]]:
    """Return the headers that answer OPTIONS; `allowed` is what allow_origin returned."""
    methods = ", ".join(list_allowed(served))
    if not allowed:
        return {"Allow": methods}
    return {
        **allowed,
        "Allow": methods,
        "Access-Control-Allow-Methods": methods,
        "Access-Control-Allow-Headers": "Authorization, Content-Type",
        "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
    }


def find_page(context: Mapping[str, Any]) -> str:
    """Return the page's address by a request's context: the host, and the path before the route's; empty if unknown.

    The routes' function cannot be told its own address, because the API is made after it. API Gateway writes the
    context, so that no client chooses the address.
    """
    domain, path, route = (str(context.get(name) or "") for name in ("domainName", "path", "resourcePath"))
    if not domain or not path:
        return ""
    before = path.rstrip("/").split("/")[: -len(route.strip("/").split("/"))]
    return f"https://{domain}{'/'.join(before)}/"
