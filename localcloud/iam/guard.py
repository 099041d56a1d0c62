"""Guard the AWS API: find whose key signed a request, record the call, and refuse what no policy allows.

The administrator's requests pass unread. A role's request is read as far as its permissions need, and passed on
unchanged. A refusal has AWS's words, in the form of the service's protocol.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from xml.sax.saxutils import escape

from starlette.responses import Response
from starlette.types import Message, Receive, Scope

from localcloud.iam.call_log import Recorded
from localcloud.iam.identity import Identities, Principal
from localcloud.iam.permissions import list_needs
from localcloud.iam.policies import Need, find_refusal
from localcloud.protocol.calls import Call, find_key_id, needs_body, read_call

QUERY_CODES = {"sns": "AuthorizationError"}  # the code of query-protocol services that do not say AccessDenied


class Records(Protocol):
    """A record of calls."""

    def add(self, call: Recorded) -> None:
        """Keep a call."""


@dataclass(frozen=True)
class Passed:
    """The guard's result: how to receive the request from here on, a refusal if any, and whether the caller may learn
    that a key of this bucket is missing, which S3 tells nobody else."""

    receive: Receive
    refusal: Response | None = None
    may_list: bool = True


class Guard:
    """Checks every request of a role against its policies."""

    def __init__(self, identities: Identities, records: Records, region: str) -> None:
        self._identities, self._records, self._region = identities, records, region

    async def check(self, scope: Scope, receive: Receive, service: str, headers: Mapping[str, str]) -> Passed:
        """Check a request before it is served."""
        query = scope["query_string"].decode("latin1")
        principal = self._identities.find(find_key_id(query, headers))
        if principal is None or scope["method"] == "OPTIONS":  # a browser's preflight before its PUT is not a call
            return Passed(receive)
        method, path = scope["method"], read_path(scope)
        body = b""
        if needs_body(service, method, path, query):
            body = await read_body(receive)
            receive = replay(body, receive)
        return self._judge(principal, read_call(service, method, path, query, headers, body), receive)

    def _judge(self, principal: Principal, call: Call, receive: Receive) -> Passed:
        policies = self._identities.list_policies(principal.role)
        needs = tuple(list_needs(call, self._region))
        reasons = ((need, find_refusal(policies, need)) for need in needs)
        refused = next(((need, reason) for need, reason in reasons if reason), None)
        self._record(principal, call, needs, allowed=refused is None)
        if refused:
            return Passed(receive, refuse(call, describe_refusal(principal, *refused)))
        if call.operation not in ("GetObject", "HeadObject"):
            return Passed(receive)
        listing = Need("s3:ListBucket", f"arn:aws:s3:::{call.parameters['Bucket']}")
        return Passed(receive, may_list=find_refusal(policies, listing) is None)

    def _record(self, principal: Principal, call: Call, needs: tuple[Need, ...], *, allowed: bool) -> None:
        self._records.add(Recorded(principal.role, call.service, call.operation, needs, allowed))


def describe_refusal(principal: Principal, need: Need, reason: str) -> str:
    """Return IAM's sentence: who may not do what on which resource, and why."""
    on = f" on resource: {need.resource}" if need.resource != "*" else ""
    return f"User: {principal.arn} is not authorized to perform: {need.action}{on} {reason}"


def refuse(call: Call, message: str) -> Response:
    """Build the refusal in the form of the service's errors."""
    request_id = str(uuid.uuid4())
    if call.service == "s3":
        return _refuse_s3(call, message, request_id)
    if call.service in ("sns", "sts", "iam", "monitoring"):
        code = QUERY_CODES.get(call.service, "AccessDenied")
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        text = f"<ErrorResponse>{error}<RequestId>{request_id}</RequestId></ErrorResponse>"
        return Response(text, 403, media_type="text/xml")
    is_runtime = call.operation.startswith("InvokeEndpoint")
    headers = {"x-amzn-RequestId": request_id, "x-amzn-ErrorType": "AccessDeniedException"}
    body = {"__type": "AccessDeniedException", "Message": message}
    return Response(json.dumps(body), 403 if is_runtime else 400, headers, "application/x-amz-json-1.1")


def _refuse_s3(call: Call, message: str, request_id: str) -> Response:
    """Build S3's refusal; its answer to HEAD has no body."""
    if call.operation.startswith("Head"):
        return Response(b"", 403, {"x-amz-request-id": request_id})
    error = f"<Error><Code>AccessDenied</Code><Message>{escape(message)}</Message><RequestId>{request_id}</RequestId>"
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>\n{error}</Error>', 403, media_type="application/xml")


def read_path(scope: Scope) -> str:
    """Return the path as it was sent, percent-encoded."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    return path.split(b"?", 1)[0].decode("latin1")


async def read_body(receive: Receive) -> bytes:
    """Return a request's whole body."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client went away before its body was complete")
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a receiver of a body that was read already, and then of whatever follows."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again
