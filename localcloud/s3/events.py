"""Describe S3's events for EventBridge in AWS's own shape (S3 user guide, "EventBridge event message structure").

moto's own events have `eTag` for `etag`, a constant sequencer, and one event too many for a multipart upload, so they
are switched off.
"""

from __future__ import annotations

import itertools
import secrets
import time
from dataclasses import dataclass
from typing import Any, Literal

_count = itertools.count()
REQUEST_ID_CHARACTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True)
class Change:
    """One change of one version of an object."""

    kind: Literal["created", "marker", "removed"]
    key: str
    version_id: str
    size: int = 0
    etag: str = ""


def next_sequencer() -> str:
    """Return a hexadecimal value that grows with each event, also over restarts: AWS orders a key's events by it."""
    return f"{time.time_ns() // 1000:014X}{next(_count) % 256:02X}"


def reason_of(method: str, arguments: set[str], *, copies: bool) -> str:
    """Return AWS's name for the operation behind a request to a key, from its method and its query's names."""
    if method == "DELETE" or "delete" in arguments:
        return "DeleteObject"
    if "uploadId" in arguments:
        return "CompleteMultipartUpload"
    if method == "POST":
        return "POST Object"
    return "CopyObject" if copies else "PutObject"


def describe_change(change: Change, *, bucket: str, account: str, reason: str) -> tuple[str, dict[str, Any]]:
    """Return the detail-type and the detail of the event for a change."""
    thing: dict[str, Any] = {"key": change.key}
    if change.kind == "created":
        thing |= {"size": change.size, "etag": change.etag}
    if change.version_id != "null":
        thing["version-id"] = change.version_id
    thing["sequencer"] = next_sequencer()
    detail: dict[str, Any] = {
        "version": "0",
        "bucket": {"name": bucket},
        "object": thing,
        "request-id": "".join(secrets.choice(REQUEST_ID_CHARACTERS) for _ in range(16)),
        "requester": account,
        "source-ip-address": "127.0.0.1",
        "reason": reason,
    }
    if change.kind == "created":
        return "Object Created", detail
    detail["deletion-type"] = "Delete Marker Created" if change.kind == "marker" else "Permanently Deleted"
    return "Object Deleted", detail
