"""Serve SageMaker's protocols as an ASGI app: JSON 1.1, and REST-JSON for the runtime.

A request with an X-Amz-Target is for SageMaker. Any other is matched against the runtime's paths. Signatures are not
checked. Operations run in threads or as coroutines, so a slow one never blocks the server's loop.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, lru_cache
from typing import Any
from urllib.parse import unquote

import botocore.model
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from localcloud.protocol.errors import InternalFailure, ServiceError, UnknownOperation, Unsupported, ValidationException
from localcloud.protocol.service_model import find_operation, load_service, parse_json, parse_request, serialise
from localcloud.sagemaker.core import tags
from localcloud.sagemaker.core.cloud import OPERATIONS, RUNTIME_OPERATIONS, Cloud, Operation
from localcloud.sagemaker.hosting import endpoint_configs, endpoints, invocations, models
from localcloud.sagemaker.training import jobs as training_jobs
from localcloud.sagemaker.tuning import jobs as tuning_jobs

log = logging.getLogger(__name__)
JSON_TYPE = "application/x-amz-json-1.1"
# Each of these modules registers its operations when it is imported.
MODULES = (endpoint_configs, endpoints, invocations, models, tags, training_jobs, tuning_jobs)


def create_app(cloud: Cloud) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return the ASGI app that serves the cloud's SageMaker and SageMaker Runtime under `/`."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"the SageMaker app serves http, not {scope['type']!r}")
        request = Request(scope, receive)
        try:
            response = await answer(cloud, request)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    return serve


async def answer(cloud: Cloud, request: Request) -> Response:
    """Return the response to one HTTP request. Every error takes AWS's form."""
    target = request.headers.get("x-amz-target")
    respond = _answer_json if target is not None else _answer_rest
    try:
        return _stamp(await respond(cloud, request))
    except ServiceError as error:
        return _stamp(_render_error(error, _error_shape(target, error), rest=target is None))
    except Exception as error:
        log.exception("%s %s failed", request.method, target or request.url.path)
        failure = InternalFailure(f"The local cloud failed: {type(error).__name__}: {error}")
        return _stamp(_render_error(failure, None, rest=target is None))


async def _answer_json(cloud: Cloud, request: Request) -> Response:
    name = request.headers["x-amz-target"].rpartition(".")[2]
    model = find_operation("sagemaker", name)
    function = _find_function(OPERATIONS, name, "SageMaker")
    result = await _call(function, cloud, parse_request(model, parse_json(await request.body())))
    body = serialise(model.output_shape, result) if model.output_shape else None
    return Response(json.dumps(body) if body is not None else b"", media_type=JSON_TYPE)


async def _answer_rest(cloud: Cloud, request: Request) -> Response:
    model, in_path = _match_path(request.method, request.url.path)
    function = _find_function(RUNTIME_OPERATIONS, model.name, "SageMaker Runtime")
    members = _validate_rest(model, tuple(_read_members(model, in_path, request.headers).items()))
    body = {model.input_shape.serialization.get("payload"): await request.body()}
    return _render_rest(model, await _call(function, cloud, {**members, **body}))


@lru_cache(256)
def _validate_rest(model: botocore.model.OperationModel, members: tuple[tuple[str, str], ...]) -> Mapping[str, Any]:
    """Check the members, but not the payload: the model's maximum (6 MB) is older than the service's (25 MB).

    An endpoint's requests differ in nothing but the payload, so the members are checked once."""
    payload = model.input_shape.serialization.get("payload")
    try:
        return parse_request(model, dict(members) | {payload: b""})
    except ValidationException as error:
        raise ServiceError(error.message, code="ValidationError") from error  # the runtime's name for it


async def _call(function: Operation, cloud: Cloud, request: dict[str, Any]) -> dict[str, Any]:
    result = function(cloud, request) if inspect.iscoroutinefunction(function) else None
    answered = await (result if result is not None else run_in_threadpool(function, cloud, request))
    return answered or {}


def _find_function(registry: Mapping[str, Operation], name: str, service: str) -> Operation:
    if name not in registry:
        raise Unsupported(
            f"The local cloud does not support {service}'s operation {name}. It has: {', '.join(sorted(registry))}"
        )
    return registry[name]


@cache
def _rest_routes() -> list[tuple[str, re.Pattern[str], botocore.model.OperationModel]]:
    service = load_service("sagemaker-runtime")
    models = [service.operation_model(name) for name in service.operation_names]
    return [(model.http["method"], _compile_path(model.http["requestUri"]), model) for model in models]


def _compile_path(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(template)))


def _match_path(method: str, path: str) -> tuple[botocore.model.OperationModel, dict[str, str]]:
    for wanted, pattern, model in _rest_routes():
        if wanted == method and (match := pattern.fullmatch(path)):
            return model, {name: unquote(value) for name, value in match.groupdict().items()}
    raise UnknownOperation(f"SageMaker has no operation behind {method} {path} without an X-Amz-Target", status=404)


def _read_members(
    model: botocore.model.OperationModel, in_path: dict[str, str], headers: Mapping[str, str]
) -> dict[str, str]:
    given = {"uri": in_path, "header": headers}
    places = ((name, place, key) for name, place, key in _list_places(model.input_shape) if place in given)
    return {name: given[place][key] for name, place, key in places if key in given[place]}


@cache
def _list_places(shape: Any) -> list[tuple[str, str, str]]:
    """List a shape's members with where each is in a request or an answer, and its name there."""
    found = ((name, member.serialization) for name, member in shape.members.items())
    return [(name, told.get("location", ""), told.get("name", name)) for name, told in found]


def _render_rest(model: botocore.model.OperationModel, result: dict[str, Any]) -> Response:
    shape = model.output_shape
    payload = shape.serialization.get("payload")
    named = ((name, key) for name, place, key in _list_places(shape) if place == "header")
    headers = {key: str(result[name]) for name, key in named if result.get(name) is not None}
    return Response(result.get(payload, b""), headers=headers)


def _error_shape(target: str | None, error: ServiceError) -> Any:
    service = load_service("sagemaker" if target is not None else "sagemaker-runtime")
    return next((shape for shape in service.error_shapes if shape.name == error.code), None)


def _render_error(error: ServiceError, shape: Any, *, rest: bool) -> Response:
    word = "Message" if shape is not None and "Message" in shape.members else "message"
    body = {"__type": error.code, word: error.message, **error.members}
    headers = {"x-amzn-ErrorType": error.code} if rest else {}
    media_type = "application/json" if rest else JSON_TYPE
    status = shape.metadata.get("error", {}).get("httpStatusCode", error.status) if shape is not None else error.status
    return Response(json.dumps(body), status_code=status, headers=headers, media_type=media_type)


def _stamp(response: Response) -> Response:
    response.headers["x-amzn-RequestId"] = str(uuid.uuid4())
    return response
