"""Serve every AWS service from one origin: SageMaker is ours, everything else is moto's, with S3 kept on disk.

AWS tells services apart by host name. Here a request names its service by its signature's scope, by X-Amz-Target or,
failing both, by its path.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any
from urllib.parse import parse_qs

from moto.core.common_models import BaseModel
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from localcloud.iam.guard import Guard
from localcloud.protocol.errors import SerializationException
from localcloud.protocol.service_model import parse_json
from localcloud.protocol.wsgi import Environ, WsgiApp, WsgiBridge, answer_json, refuse_json
from localcloud.s3.keeper import S3Keeper

log = logging.getLogger(__name__)
THREADS = 48
MESSENGERS = {"events", "sqs", "sns"}
CREDENTIAL = re.compile(r"Credential=[^/,\s]+/\d{8}/[^/]*/(?P<service>[^/]+)/aws4_request")
INVOCATION = re.compile(r"^/endpoints/[^/]+/(invocations|async-invocations|invocations-response-stream)$")


def find_service(path: str, query: str, headers: dict[str, str]) -> str:
    """Return the signing name of the service that a request is for, in lower case; `s3` by default."""
    if match := CREDENTIAL.search(headers.get("authorization", "")):
        return match["service"].lower()
    for credential in parse_qs(query).get("X-Amz-Credential", []):
        if len(scope := credential.split("/")) == 5:
            return scope[3].lower()
    if target := headers.get("x-amz-target", ""):
        return "sagemaker" if target.startswith("SageMaker.") else target.partition(".")[0].lower()
    return "sagemaker" if INVOCATION.match(path) else "s3"


def make_moto() -> WsgiApp:
    """Build moto's WSGI application for all of its services; it refuses any other service by name."""
    BaseModel.__new__ = make_forgotten  # type: ignore[method-assign, assignment]
    app = DomainDispatcherApplication(create_service)
    # at each request, moto lists the folders of its two hundred services to find the one for a host
    app.get_backend_for_host = cache(app.get_backend_for_host)  # type: ignore[method-assign]
    dispatch: WsgiApp = app
    return dispatch


def make_forgotten(kind: type[BaseModel], *_arguments: Any, **_named: Any) -> BaseModel:
    """Make one of moto's objects. moto's own way keeps each in a list for ever: every log line, metric and key."""
    return object.__new__(kind)


def create_service(name: Any) -> Any:
    """Return moto's application for a service by moto's name for it; None stands for a service that moto lacks."""
    return create_backend_app(name) if name else refuse_service


def refuse_service(environ: Environ, start_response: Any) -> Iterable[bytes]:
    return refuse_json(start_response, f"The local cloud has no service {environ['localcloud.service']!r}.")


class Router:
    """moto, with S3's keeper and the given `fronts` in front of some of its services.

    `sent` is called after each request that may have put a message into a queue."""

    def __init__(
        self,
        moto: WsgiApp,
        keeper: S3Keeper,
        sent: Callable[[], None] = lambda: None,
        fronts: Mapping[str, WsgiApp] | None = None,
    ) -> None:
        self._moto, self._sent = moto, sent
        self._fronts: dict[str, WsgiApp] = {"s3": keeper, **(fronts or {})}

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        service = environ["localcloud.service"]
        try:
            check_json(environ)
            answer = self._fronts.get(service, self._moto)(environ, start_response)
        except SerializationException as error:
            return answer_json(start_response, {"__type": error.code, "message": error.message}, "400 Bad Request")
        except NotImplementedError as error:
            return _refuse_unknown(service, error, start_response)
        if service in MESSENGERS:
            self._sent()
        return answer


def check_json(environ: Environ) -> None:
    """Raise SerializationException where a body of the JSON protocols is no JSON object: moto would break over it."""
    if environ.get("CONTENT_TYPE", "").startswith("application/x-amz-json"):
        sent = environ["wsgi.input"].read()
        environ["wsgi.input"] = io.BytesIO(sent)
        parse_json(sent)


def _refuse_unknown(service: str, error: NotImplementedError, start_response: Any) -> Iterable[bytes]:
    """Answer what moto lacks with an error that no client retries, and that both JSON and XML clients can read."""
    log.warning("the local cloud does not support this of %s: %s", service, error)
    start_response("501 Not Implemented", [("Content-Type", "text/plain"), ("Content-Length", "0")])
    return []


class Origin:
    """The ASGI application behind AWS_PORT. `sagemaker` answers SageMaker and SageMaker Runtime."""

    def __init__(self, router: WsgiApp, sagemaker: ASGIApp, guard: Guard) -> None:
        self._router, self._sagemaker, self._guard = router, sagemaker, guard
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="aws")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"].startswith("/moto-api"):  # it could empty the memory while the disk keeps everything
            await JSONResponse({"message": "moto's own API is not served here"}, 404)(scope, receive, send)
            return
        headers = {name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]}
        service = find_service(scope["path"], scope["query_string"].decode("latin1"), headers)
        passed = await self._guard.check(scope, receive, service, headers)
        if passed.refusal:
            await passed.refusal(scope, passed.receive, send)
        elif service == "sagemaker":
            await self._sagemaker(scope, passed.receive, send)
        else:
            told = {"localcloud.service": service, "localcloud.may_list": passed.may_list}
            await WsgiBridge(self._router, self._pool, told)(scope, passed.receive, send)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
