"""Serve the app's API function behind API Gateway's REST API: proxy events of version 1.0, its limits and refusals.

The limits: a body of 10 MB, an event of Lambda's 6 MB (an image grows by a third in base64), an answer within 29 s.
The routes are those of the OpenAPI body in the app's template, the refusals its gateway responses. Where Lambda has no
place left for a call, it is refused at once. There is no throttling, no caching and no API keys.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from localcloud.functions.invoking import FunctionError, PayloadTooLarge, Plain, TooManyRequests
from localcloud.functions.refusals import Refusals
from localcloud.stacks.provisioning import ACCOUNT

BODY_BYTES = 10 * 1024 * 1024
SECONDS = 29.0
Invoke = Callable[[str, Any, str], Awaitable[Any]]
Route = tuple[re.Pattern[str], str, dict[str, Any]]


class Gateway:
    """The ASGI application behind PORT. `invoke(function, event, request_id)` returns the function's answer."""

    seconds = SECONDS

    def __init__(
        self,
        body: dict[str, Any],
        *,
        stage: str,
        function: str,
        invoke: Invoke,
        responses: Mapping[str, Any] | None = None,
    ) -> None:
        self._refusals = Refusals(responses or {})
        self._stage, self._function, self._invoke = stage, function, invoke
        self._routes = list_routes(body)
        self._binary = set(body.get("x-amazon-apigateway-binary-media-types", []))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        raw = (request.scope.get("raw_path") or request.url.path.encode()).decode("latin1")
        prefix = f"/{self._stage}"
        if raw in ("/", prefix):
            return RedirectResponse(f"{prefix}/")
        if not raw.startswith(f"{prefix}/"):
            return Response('{"message":"Forbidden"}', 403, media_type="application/json")  # of no API, so no template
        found = find_route(self._routes, request.method, raw.removeprefix(prefix))
        if found is None:  # this is API Gateway's answer to every path and method that it does not know
            return self._refusals.answer("MISSING_AUTHENTICATION_TOKEN")
        resource, operation, parameters = found
        if operation.get("x-amazon-apigateway-integration", {}).get("type") == "mock":
            return answer_mock(operation)
        body = await read_body(request, BODY_BYTES)
        if body is None:
            return self._refusals.answer("REQUEST_TOO_LARGE")
        event = build_event(
            request, body, resource=resource, raw_path=raw.removeprefix(prefix), parameters=parameters,
            stage=self._stage, binary=is_binary(request.headers.get("content-type", ""), self._binary),
        )  # fmt: skip
        return await self._run(event)

    async def _run(self, event: dict[str, Any]) -> Response:
        work = asyncio.ensure_future(self._invoke(self._function, event, event["requestContext"]["requestId"]))
        try:
            return render(await asyncio.wait_for(asyncio.shield(work), self.seconds))
        except PayloadTooLarge as error:
            too_large = error.kind == "RequestTooLargeException"
            return self._refusals.answer("REQUEST_TOO_LARGE" if too_large else "BAD_INTEGRATION_ANSWER")
        except TooManyRequests:
            return self._refusals.answer("INTEGRATION_FAILURE")
        except TimeoutError:
            work.add_done_callback(ignore)  # the function runs on; nobody reads its answer
            return self._refusals.answer("INTEGRATION_TIMEOUT")
        except (FunctionError, MalformedAnswer):
            return self._refusals.answer("BAD_INTEGRATION_ANSWER")


def ignore(work: asyncio.Future[Any]) -> None:
    """Take note of how work ended that nobody waits for: asyncio complains of errors that nobody has seen."""
    if not work.cancelled():
        work.exception()


class MalformedAnswer(ValueError):
    """The function's answer is not a proxy response."""


def list_routes(body: dict[str, Any]) -> list[Route]:
    """List (path pattern, resource, operations by method), with fixed paths before those with parameters."""
    paths = sorted(body.get("paths", {}), key=lambda path: (path.count("{"), path))
    return [(compile_path(path), path, body["paths"][path]) for path in paths]


def compile_path(resource: str) -> re.Pattern[str]:
    pattern = re.sub(r"\\\{(\w+)\\\+\\\}", r"(?P<\1>.+)", re.escape(resource))
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", pattern))


def find_route(routes: list[Route], method: str, raw_path: str) -> tuple[str, dict[str, Any], dict[str, str]] | None:
    """Return a request's (resource, operation, path parameters), or None where the API has no such route.

    REST APIs pass on paths and path parameters as they were sent, percent-encoded."""
    for pattern, resource, operations in routes:
        match = pattern.fullmatch(raw_path)
        operation = operations.get(method.lower(), operations.get("x-amazon-apigateway-any-method"))
        if match and operation is not None:
            return resource, operation, match.groupdict()
    return None


async def read_body(request: Request, limit: int) -> bytes | None:
    """Return the request's body, or None where it exceeds the limit; the excess is read but not kept."""
    body, size = bytearray(), 0
    async for piece in request.stream():
        size += len(piece)
        if size <= limit:
            body += piece
    return bytes(body) if size <= limit else None


def is_binary(content_type: str, binary: set[str]) -> bool:
    """Return whether a body of this content type is passed on in base64; the type's parameters do not count."""
    kind = content_type.split(";", 1)[0].strip().lower()
    return kind in binary or "*/*" in binary


def build_event(
    request: Request, body: bytes, *, resource: str, raw_path: str, parameters: dict[str, str], stage: str, binary: bool
) -> dict[str, Any]:
    """Build a request's proxy event, version 1.0."""
    headers, query = defaultdict(list), defaultdict(list)
    for name, value in request.headers.items():
        headers[name].append(value)
    for name, value in parse_qsl(request.url.query, keep_blank_values=True):
        query[name].append(value)
    now, address = time.time(), request.client.host if request.client else "127.0.0.1"
    text = Plain(base64.b64encode(body), "ascii") if binary else body.decode("utf-8", "replace")
    return {
        "resource": resource,
        "path": raw_path,
        "httpMethod": request.method,
        "headers": {name: values[-1] for name, values in headers.items()},
        "multiValueHeaders": dict(headers),
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": dict(query) or None,
        "pathParameters": parameters or None,
        "stageVariables": None,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "local",
            "domainName": request.headers.get("host", ""),
            "extendedRequestId": uuid.uuid4().hex,
            "httpMethod": request.method,
            "identity": {"sourceIp": address, "userAgent": request.headers.get("user-agent")},
            "path": f"/{stage}{raw_path}",
            "protocol": "HTTP/1.1",
            "requestId": str(uuid.uuid4()),
            "requestTime": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "requestTimeEpoch": int(now * 1000),
            "resourceId": "local",
            "resourcePath": resource,
            "stage": stage,
        },
        "body": text if body else None,
        "isBase64Encoded": bool(body) and binary,
    }


def render(answer: Any) -> Response:
    """Render a function's proxy response as HTTP. Raises MalformedAnswer where it is not a proxy response."""
    try:
        body = answer.get("body") or ""
        content = base64.b64decode(body) if answer.get("isBase64Encoded") else str(body).encode()
        response = Response(content, status_code=int(answer["statusCode"]))
        pairs = list((answer.get("headers") or {}).items())
        pairs += [(name, value) for name, values in (answer.get("multiValueHeaders") or {}).items() for value in values]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MalformedAnswer(f"no proxy response: {str(answer)[:200]}") from error
    for name, value in pairs:
        response.headers.append(name, str(value))
    if "content-type" not in response.headers:
        response.headers["content-type"] = "application/json"
    return response


def answer_mock(operation: dict[str, Any]) -> Response:
    """Build a mock integration's answer, which is how Chalice lets API Gateway answer CORS preflights."""
    told = operation["x-amazon-apigateway-integration"]["responses"]["default"]
    prefix = "method.response.header."
    headers = {
        name.removeprefix(prefix): str(value).strip("'") for name, value in told.get("responseParameters", {}).items()
    }
    return Response(b"", int(told.get("statusCode", 200)), headers)
