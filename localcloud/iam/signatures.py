"""Read and verify AWS's signatures: version 4 in a header or a URL, and version 2 in a URL, which boto3 makes for S3.

Pure: who holds which key, and what time it is, are arguments. The payload of an S3 request is as its signed header
says; it is not hashed again.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import SplitResult, parse_qsl, quote, unquote

from botocore.auth import HmacV1Auth
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials as BotocoreCredentials
from botocore.utils import normalize_url_path

from localcloud.common.keys import Credentials

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
MOST_SKEW = timedelta(minutes=15)
LONGEST_URL = 604_800  # seconds: a week
PART = re.compile(r"(Credential|SignedHeaders|Signature)=([^,\s]+)")


@dataclass(frozen=True)
class Sent:
    """A request as it was sent: path and query percent-encoded, header names in lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, str]:
        return dict(parse_qsl(self.query, keep_blank_values=True))


@dataclass(frozen=True)
class Signature:
    """What a request says of its signature. `scope` is DATE/REGION/SERVICE/aws4_request; version 2 has none."""

    key_id: str
    value: str
    scope: str = ""
    signed_headers: tuple[str, ...] = ()
    made_at: str = ""
    expires: int | None = None
    token: str = ""

    @property
    def service(self) -> str:
        return self.scope.split("/")[2] if self.scope else "s3"


class SignatureRefused(Exception):
    """A request is unsigned, or its signature is not good; `fault` is a key of the guard's table of refusals."""

    def __init__(self, fault: str, detail: str = "") -> None:
        super().__init__(detail)
        self.fault = fault


def read_signature(sent: Sent) -> Signature:
    """Return a request's signature, from its header or its URL. Raises SignatureRefused where it has none."""
    told = sent.parameters
    if header := sent.headers.get("authorization"):
        return _read_header(header, sent.headers)
    if "X-Amz-Signature" in told:
        return _read_url(told)
    if {"AWSAccessKeyId", "Signature", "Expires"} <= told.keys():
        token = told.get("x-amz-security-token", "")
        return Signature(told["AWSAccessKeyId"], told["Signature"], expires=_whole(told["Expires"]), token=token)
    raise SignatureRefused("missing")


def _read_header(header: str, headers: Mapping[str, str]) -> Signature:
    parts = dict(PART.findall(header))
    if not header.startswith(ALGORITHM) or len(parts) != 3:
        raise SignatureRefused("incomplete", f"it must be {ALGORITHM} with Credential, SignedHeaders and Signature")
    key_id, _, scope = parts["Credential"].partition("/")
    return Signature(
        key_id, parts["Signature"], _check_scope(scope), tuple(parts["SignedHeaders"].lower().split(";")),
        headers.get("x-amz-date", ""), token=headers.get("x-amz-security-token", ""),
    )  # fmt: skip


def _read_url(told: Mapping[str, str]) -> Signature:
    key_id, _, scope = told.get("X-Amz-Credential", "").partition("/")
    return Signature(
        key_id, told["X-Amz-Signature"], _check_scope(scope),
        tuple(told.get("X-Amz-SignedHeaders", "").lower().split(";")), told.get("X-Amz-Date", ""),
        min(_whole(told.get("X-Amz-Expires", "")), LONGEST_URL), told.get("X-Amz-Security-Token", ""),
    )  # fmt: skip


def _check_scope(scope: str) -> str:
    if not re.fullmatch(r"\d{8}/[^/]+/[^/]+/aws4_request", scope):
        raise SignatureRefused("incomplete", "its Credential must be KEY/DATE/REGION/SERVICE/aws4_request")
    return scope


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise SignatureRefused("incomplete", f"{text[:40]!r} is not a number of seconds")
    return int(text)


def find_digest(sent: Sent, signature: Signature) -> str | None:
    """Return the payload's hash as far as the request tells it, or None where the body must be hashed."""
    if signature.service == "s3" and signature.expires is not None:
        return sent.parameters.get("X-Amz-Content-Sha256") or UNSIGNED
    if signature.service == "s3":
        return sent.headers.get("x-amz-content-sha256", UNSIGNED)
    return None


def verify(sent: Sent, signature: Signature, held: Credentials, digest: str, now: datetime) -> None:
    """Check that the holder of the key made this request, and in time. Raises SignatureRefused."""
    if not hmac.compare_digest(signature.token.encode(), held.session_token.encode()):
        raise SignatureRefused("token")
    made = compute_version_4(sent, signature, held, digest) if signature.scope else compute_version_2(sent, held)
    if not hmac.compare_digest(made.encode(), signature.value.encode()):
        raise SignatureRefused("mismatch")
    _check_time(signature, now)


def _check_time(signature: Signature, now: datetime) -> None:
    if not signature.scope:
        if now.timestamp() > (signature.expires or 0):
            raise SignatureRefused("expired")
        return
    try:
        made_at = read_time(signature.made_at)
    except ValueError:
        raise SignatureRefused("incomplete", "its X-Amz-Date must be YYYYMMDDTHHMMSSZ") from None
    if signature.expires is not None and now > made_at + timedelta(seconds=signature.expires):
        raise SignatureRefused("expired")
    if made_at - now > MOST_SKEW or (signature.expires is None and now - made_at > MOST_SKEW):
        raise SignatureRefused("skewed")


@lru_cache(64)
def read_time(text: str) -> datetime:
    """Return the time of an X-Amz-Date, which all requests of a second share. Raises ValueError."""
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def compute_version_4(sent: Sent, signature: Signature, held: Credentials, digest: str) -> str:
    """Compute the signature that this request would have from this key (AWS's "Signature Version 4")."""
    lines = [
        sent.method,
        _canonical_path(sent.path, signature.service),
        _canonical_query(sent.query),
        *(f"{name}:{' '.join(sent.headers.get(name, '').split())}" for name in signature.signed_headers),
        "",
        ";".join(signature.signed_headers),
        digest,
    ]
    hashed = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    key = derive_key(held.secret_access_key, signature.scope)
    text = "\n".join([ALGORITHM, signature.made_at, signature.scope, hashed])
    return hmac.new(key, text.encode(), "sha256").hexdigest()


@lru_cache(64)
def derive_key(secret: str, scope: str) -> bytes:
    """Derive the key that signs a day's requests to one service in one region."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _canonical_path(path: str, service: str) -> str:
    """S3 signs the path as it is sent; every other service encodes it once more."""
    return path if service == "s3" else quote(normalize_url_path(path), safe="/~")


def _canonical_query(query: str) -> str:
    pairs = [item.partition("=") for item in query.split("&") if item]
    kept = sorted((_encode(name), _encode(value)) for name, _, value in pairs if unquote(name) != "X-Amz-Signature")
    return "&".join(f"{name}={value}" for name, value in kept)


def _encode(text: str) -> str:
    return quote(unquote(text), safe="-_.~")


def compute_version_2(sent: Sent, held: Credentials) -> str:
    """Compute a signed URL's signature of version 2. What was a signed header stands in the query."""
    told = sent.parameters
    headers = HTTPHeaders()
    for name, value in {**sent.headers, **told}.items():
        if name.startswith("x-amz-") or name in ("content-md5", "content-type"):
            headers[name] = value
    signer = HmacV1Auth(BotocoreCredentials(held.access_key_id, held.secret_access_key))
    address = SplitResult("", "", sent.path, sent.query, "")
    standard = [sent.method, headers.get("content-md5", ""), headers.get("content-type", ""), told["Expires"]]
    named = signer.canonical_custom_headers(headers)
    lines = [*standard, *([named] if named else []), signer.canonical_resource(address)]
    signature: str = signer.sign_string("\n".join(lines))
    return signature
