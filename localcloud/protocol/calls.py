"""Read a request to AWS as a call: whose key signed it, its service, its operation and its parameters.

Only what permissions need is read: the bucket, key and version of an S3 request, the JSON or form of the others. The
parameters have the names of the service's API.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote
from xml.etree import ElementTree

KEY_ID = re.compile(r"Credential=(?P<key>[^/,\s]+)/")
INVOCATION = re.compile(r"^/endpoints/(?P<endpoint>[^/]+)/(?P<kind>invocations[^/]*|async-invocations)$")
INVOCATIONS = {
    "invocations": "InvokeEndpoint",
    "async-invocations": "InvokeEndpointAsync",
    "invocations-response-stream": "InvokeEndpointWithResponseStream",
}
# By method, for a key and for a bucket alone; a name in the query may specify another operation.
OBJECT_CALLS = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}
BUCKET_CALLS = {"GET": "ListObjects", "HEAD": "HeadBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket"}
SUBRESOURCES = {
    "tagging": "Tagging",
    "acl": "Acl",
    "attributes": "Attributes",
    "versioning": "Versioning",
    "location": "Location",
    "cors": "Cors",
    "policy": "Policy",
    "encryption": "Encryption",
    "lifecycle": "LifecycleConfiguration",
    "notification": "NotificationConfiguration",
}


@dataclass(frozen=True)
class Call:
    """One requested operation."""

    service: str
    operation: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def find_key_id(query: str, headers: Mapping[str, str]) -> str:
    """Return the id of the access key that signed a request, from its header or URL; empty where it is unsigned."""
    if match := KEY_ID.search(headers.get("authorization", "")):
        return match["key"]
    told = parse_qs(query)
    return told.get("X-Amz-Credential", told.get("AWSAccessKeyId", [""]))[0].partition("/")[0]


def needs_body(service: str, method: str, path: str, query: str) -> bool:
    """Return whether the call is described in the body: true except for S3's, which may be long, and the runtime's."""
    if service == "s3":
        return method == "POST" and "delete" in dict(parse_qsl(query, keep_blank_values=True))
    return not INVOCATION.match(path)


def read_call(service: str, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes = b"") -> Call:
    """Read a request as a call. `path` is percent-encoded, as it was sent."""
    if service == "s3":
        return read_s3_call(method, path, query, headers, body)
    if match := INVOCATION.match(path):
        return Call(service, INVOCATIONS[match["kind"]], {"EndpointName": unquote(match["endpoint"])})
    if target := headers.get("x-amz-target"):
        return Call(service, target.rpartition(".")[2], _read_json(body))
    form = dict(parse_qsl(body.decode("utf-8", "replace")))
    return Call(service, form.pop("Action", path.rpartition("/")[2]), form)


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        read = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def read_s3_call(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes = b"") -> Call:
    """Read S3's call from method, path and query: an S3 request does not name its operation."""
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    asked = dict(parse_qsl(query, keep_blank_values=True))
    parameters: dict[str, Any] = {"Bucket": bucket} | ({"Key": key} if key else {})
    for word, name in (("versionId", "VersionId"), ("prefix", "Prefix"), ("delimiter", "Delimiter")):
        if word in asked:
            parameters[name] = asked[word]
    if not bucket:
        return Call("s3", "ListBuckets")
    if source := headers.get("x-amz-copy-source"):
        parameters["CopySource"] = read_copy_source(source)
    for header, name in (("x-amz-tagging", "Tagging"), ("x-amz-tagging-directive", "TaggingDirective")):
        if header in headers:
            parameters[name] = headers[header]
    if key:
        return Call("s3", _name_object_call(method, asked, copies="CopySource" in parameters), parameters)
    if method == "POST" and "delete" in asked:
        return Call("s3", "DeleteObjects", parameters | {"Delete": {"Objects": read_deletions(body)}})
    return Call("s3", _name_bucket_call(method, asked), parameters)


def read_copy_source(header: str) -> dict[str, str]:
    """Return the bucket, key and version of a copy's source."""
    path, _, query = header.partition("?")
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    version = dict(parse_qsl(query)).get("versionId")
    return {"Bucket": bucket, "Key": key} | ({"VersionId": version} if version else {})


def read_deletions(body: bytes) -> list[dict[str, str]]:
    """List the keys, and any versions, that DeleteObjects names."""
    found = []
    for thing in ElementTree.fromstring(body):  # noqa: S314  # the local cloud's own clients sent it
        members = {each.tag.rpartition("}")[2]: each.text or "" for each in thing}
        if "Key" in members:
            found.append({name: members[name] for name in ("Key", "VersionId") if members.get(name)})
    return found


def _name_object_call(method: str, asked: Mapping[str, str], *, copies: bool) -> str:
    if "uploads" in asked:
        return "CreateMultipartUpload"
    if "uploadId" in asked:
        part = "UploadPartCopy" if copies else "UploadPart"
        names = {"GET": "ListParts", "PUT": part, "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}
        return names.get(method, method)
    for word, name in SUBRESOURCES.items():
        if word in asked:
            return f"{method.title()}Object{name}"
    if copies:
        return "CopyObject"
    return OBJECT_CALLS.get(method, f"{method.title()}Object")


def _name_bucket_call(method: str, asked: Mapping[str, str]) -> str:
    if asked.get("list-type") == "2":
        return "ListObjectsV2"
    if "versions" in asked:
        return "ListObjectVersions"
    if "uploads" in asked:
        return "ListMultipartUploads"
    for word, name in SUBRESOURCES.items():
        if word in asked:
            return f"{method.title()}Bucket{name}"
    return BUCKET_CALLS.get(method, f"{method.title()}Bucket")
