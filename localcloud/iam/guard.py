"""Guard the AWS API: require a good signature, record a role's call, and refuse what no policy allows.

Only a browser's preflight is unsigned; whose it is, the door has asked already. The administrator's requests pass
without a look at policies. A role's request is read as far as its permissions need, and passed on unchanged. A refusal
has AWS's words, in the form of the service's protocol.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from xml.sax.saxutils import escape

from starlette.responses import Response
from starlette.types import Message, Receive, Scope

from localcloud.iam.call_log import Recorded
from localcloud.iam.identity import Identities, Principal
from localcloud.iam.permissions import list_needs
from localcloud.iam.policies import Need
from localcloud.iam.signatures import Sent, SignatureRefused, find_digest, read_signature, verify
from localcloud.protocol.calls import Call, find_key_id, needs_body, read_call

QUERY_CODES = {"sns": "AuthorizationError"}  # the code of query-protocol services that do not say AccessDenied
KEYS_ARE = "The local cloud's keys are in the file env of its folder: . .localcloud/env"
NOT_IN_RECORDS = "The AWS Access Key Id you provided does not exist in our records."
TOKEN_INVALID = "The security token included in the request is invalid."  # noqa: S105  # a message
MISMATCH = "The request signature we calculated does not match the signature you provided."
# The codes by a signature's fault: S3's, those of the query protocol, those of the JSON protocols; and AWS's words.
FAULTS = {
    "missing": ("AccessDenied", "MissingAuthenticationToken", "MissingAuthenticationTokenException"),
    "incomplete": ("AuthorizationHeaderMalformed", "IncompleteSignature", "IncompleteSignatureException"),
    "key": ("InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException"),
    "token": ("InvalidToken", "InvalidClientTokenId", "UnrecognizedClientException"),
    "mismatch": ("SignatureDoesNotMatch", "SignatureDoesNotMatch", "InvalidSignatureException"),
    "expired": ("AccessDenied", "RequestExpired", "InvalidSignatureException"),
    "skewed": ("RequestTimeTooSkewed", "SignatureDoesNotMatch", "InvalidSignatureException"),
}
WORDS = {
    "missing": "Request is missing Authentication Token",
    "incomplete": "The authorization of the request is malformed",
    "key": TOKEN_INVALID,
    "token": TOKEN_INVALID,
    "mismatch": f"{MISMATCH} Check your AWS Secret Access Key and signing method.",
    "expired": "Request has expired",
    "skewed": "The difference between the request time and the current time is too large.",
}
FORM = "application/x-www-form-urlencoded"


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
    """Checks every request's signature, and a role's request against its policies. `now` gives the time in UTC."""

    def __init__(
        self,
        identities: Identities,
        records: Records,
        region: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._identities, self._records, self._region, self._now = identities, records, region, now

    async def check(self, scope: Scope, receive: Receive, service: str, headers: Mapping[str, str]) -> Passed:
        """Check a request before it is served."""
        query, method, path = scope["query_string"].decode("latin1"), scope["method"], read_path(scope)
        if is_preflight(method, headers):  # a browser's question before its PUT is not a call
            return Passed(receive)
        try:
            receive = await self._verify(Sent(method, path, query, headers), receive)
        except SignatureRefused as refused:
            return Passed(receive, refuse_signature(service, method, headers, refused))
        principal = self._identities.find(find_key_id(query, headers))
        if principal is None:
            return Passed(receive)
        body = b""
        if needs_body(service, method, path, query):
            body = await read_body(receive)
            receive = replay(body, receive)
        return self._judge(principal, read_call(service, method, path, query, headers, body), receive)

    async def _verify(self, sent: Sent, receive: Receive) -> Receive:
        """Check the signature, and return how to receive the request from here on. Raises SignatureRefused."""
        signature = read_signature(sent)
        held = self._identities.find_credentials(signature.key_id)
        if held is None:
            raise SignatureRefused("key")
        digest = find_digest(sent, signature)
        if digest is None:
            body = await read_body(receive)
            receive, digest = replay(body, receive), hashlib.sha256(body).hexdigest()
        verify(sent, signature, held, digest, self._now())
        return receive

    def _judge(self, principal: Principal, call: Call, receive: Receive) -> Passed:
        needs = tuple(list_needs(call, self._region))
        reasons = ((need, self._identities.find_refusal(principal.role, need)) for need in needs)
        refused = next(((need, reason) for need, reason in reasons if reason), None)
        self._record(principal, call, needs, allowed=refused is None)
        if refused:
            return Passed(receive, refuse(call, describe_refusal(principal, *refused)))
        if call.operation not in ("GetObject", "HeadObject"):
            return Passed(receive)
        listing = Need("s3:ListBucket", f"arn:aws:s3:::{call.parameters['Bucket']}")
        return Passed(receive, may_list=self._identities.find_refusal(principal.role, listing) is None)

    def _record(self, principal: Principal, call: Call, needs: tuple[Need, ...], *, allowed: bool) -> None:
        self._records.add(Recorded(principal.role, call.service, call.operation, needs, allowed))


def describe_refusal(principal: Principal, need: Need, reason: str) -> str:
    """Return IAM's sentence: who may not do what on which resource, and why."""
    on = f" on resource: {need.resource}" if need.resource != "*" else ""
    return f"User: {principal.arn} is not authorized to perform: {need.action}{on} {reason}"


def refuse(call: Call, message: str) -> Response:
    """Build the refusal in the form of the service's errors."""
    if call.service == "s3":
        return render_s3("AccessDenied", message, has_body=not call.operation.startswith("Head"))
    if call.service in ("sns", "sts", "iam", "monitoring"):
        return render_query(QUERY_CODES.get(call.service, "AccessDenied"), message)
    return render_json("AccessDeniedException", message, 403 if call.operation.startswith("InvokeEndpoint") else 400)


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Return whether this is a browser's question whether a page may send a request."""
    return method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


def refuse_signature(service: str, method: str, headers: Mapping[str, str], refused: SignatureRefused) -> Response:
    """Build AWS's refusal of a request whose signature is not good, and say where the good keys are."""
    s3_code, query_code, json_code = FAULTS[refused.fault]
    words = NOT_IN_RECORDS if service == "s3" and refused.fault == "key" else WORDS[refused.fault]
    detail = f": {refused}." if str(refused) else ""
    message = f"{words}{detail} {KEYS_ARE}"
    if service == "s3":
        status = 400 if refused.fault in ("incomplete", "token") else 403
        return render_s3(s3_code, message, status, has_body=method != "HEAD")
    if headers.get("content-type", "").startswith(FORM):
        return render_query(query_code, message)
    return render_json(json_code, message, 400 if "x-amz-target" in headers else 403)


def render_s3(code: str, message: str, status: int = 403, *, has_body: bool = True) -> Response:
    """Build an error in S3's form; the answer to HEAD has no body."""
    request_id = str(uuid.uuid4())
    if not has_body:
        return Response(b"", status, {"x-amz-request-id": request_id})
    error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message><RequestId>{request_id}</RequestId>"
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>\n{error}</Error>', status, media_type="application/xml")


def render_query(code: str, message: str) -> Response:
    """Build an error in the query protocol's form."""
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    text = f"<ErrorResponse>{error}<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
    return Response(text, 403, media_type="text/xml")


def render_json(code: str, message: str, status: int) -> Response:
    """Build an error in the JSON protocols' form."""
    headers = {"x-amzn-RequestId": str(uuid.uuid4()), "x-amzn-ErrorType": code}
    return Response(json.dumps({"__type": code, "Message": message}), status, headers, "application/x-amz-json-1.1")


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
