"""Let people upload what does not fit into a request: large images for a prediction, and datasets.

`POST /uploads` signs addresses of the bucket for one object of one size, for minutes. An object from 100 MB on is sent
in parts, each to an address of its own, and `POST /uploads/ID/complete` puts them together. `GET /uploads/ID` says
which parts have arrived, and signs new addresses for the others: an upload that was interrupted goes on. Images lie
below `uploads/`, whose objects the bucket deletes after a day.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from chalicelib import errors
from chalicelib.aws.buckets import to_json
from chalicelib.runs.identity import DATASETS
from chalicelib.services import Services

UPLOADS = "uploads/"
PARTS_FROM = 100_000_000
PART_BYTES = 64 * 1024 * 1024
MOST_BYTES = {"image": 25_000_000, "dataset": 50_000_000_000}
READ_SECONDS = 120  # for which the endpoint may fetch an image
EXAMPLE = 'Send JSON such as {"kind": "dataset", "name": "dogs", "size": 123456789}; kind is image or dataset.'


def begin_upload(body: bytes, check_name: Callable[[str], str], services: Services) -> dict[str, Any]:
    """Return where to PUT the bytes: {id, kind, key, size, method, expires_in, and url or parts}.

    `check_name` returns a dataset's name or raises InvalidName. Raises BadRequest and PayloadTooLarge too.
    """
    kind, name, size = read_request(body)
    if kind == "dataset":
        check_name(name)
    id = uuid.uuid4().hex
    key = f"{DATASETS}{name}.zip" if kind == "dataset" else f"{UPLOADS}{id}"
    if size < PARTS_FROM:
        url = services.bucket.sign_upload(key, services.settings.upload_seconds, size)
        return tell_upload(id, kind, key, size, services) | {"url": url}
    upload = services.bucket.begin_parts(key)
    record = {"key": key, "upload_id": upload, "parts": len(cut_parts(size)), "size": size}
    services.bucket.write(name_record(id), to_json(record))
    return tell_parts(id, record, {}, services)


def describe_upload(id: str, services: Services) -> dict[str, Any]:
    """Return an upload in parts as POST /uploads did; a part that has arrived has an ETag in place of an address.

    Raises NotFound for an id that has no parts, and for an upload that is complete or more than a day old.
    """
    record = read_record(id, services)
    try:
        arrived = services.bucket.list_parts(record["key"], record["upload_id"])
    except errors.ServiceNotFound as error:
        raise errors.NotFound("The upload is over. POST /uploads begins another.") from error
    return tell_parts(id, record, arrived, services)


def tell_upload(id: str, kind: str, key: str, size: int, services: Services) -> dict[str, Any]:
    """Return what every upload is told, but for the addresses."""
    seconds = services.settings.upload_seconds
    return {"id": id, "kind": kind, "key": key, "size": size, "method": "PUT", "expires_in": seconds}


def tell_parts(
    id: str, record: Mapping[str, Any], arrived: Mapping[int, tuple[int, str]], services: Services
) -> dict[str, Any]:
    """Return what an upload in parts is told. Only a dataset is large enough for them."""
    parts = {"parts": list_parts(record, arrived, services), "complete": f"uploads/{id}/complete"}
    return tell_upload(id, "dataset", record["key"], record["size"], services) | parts


def list_parts(
    record: Mapping[str, Any], arrived: Mapping[int, tuple[int, str]], services: Services
) -> list[dict[str, Any]]:
    """List an upload's parts, each with its ETag if it has arrived whole, else with an address to PUT it to."""
    key, upload, seconds = record["key"], record["upload_id"], services.settings.upload_seconds
    parts = []
    for number, length in enumerate(cut_parts(record["size"]), 1):
        size, etag = arrived.get(number, (0, ""))
        has = {"etag": etag} if size == length else {}
        told = has or {"url": services.bucket.sign_part(key, upload, number, length, seconds)}
        parts.append({"number": number, "size": length, **told})
    return parts


def read_record(id: str, services: Services) -> dict[str, Any]:
    """Return what is known of an upload in parts. Raises NotFound."""
    stored = services.bucket.read(name_record(id)) if is_id(id) else None
    if stored is None:
        raise errors.NotFound(f"There is no upload {id[:50]!r} in parts. POST /uploads begins one.")
    record: dict[str, Any] = stored.as_json()
    return record


def cut_parts(size: int) -> list[int]:
    """Return the sizes of an upload's parts, in their order."""
    whole, rest = divmod(size, PART_BYTES)
    return [PART_BYTES] * whole + ([rest] if rest else [])


def complete_upload(id: str, body: bytes, services: Services) -> dict[str, Any]:
    """Put the parts of an upload together: {id, key}. Raises BadRequest, and NotFound for an id that has no parts."""
    record = read_record(id, services)
    etags = read_parts(body)
    if len(etags) != record["parts"]:  # S3 itself would put any parts together
        raise errors.BadRequest(f"The upload has {record['parts']} parts, and {len(etags)} are named. Send them all.")
    try:
        services.bucket.complete_parts(record["key"], record["upload_id"], etags)
    except errors.ServiceNotFound as error:
        raise errors.NotFound("The upload is too old to be completed. POST /uploads begins another.") from error
    except errors.InvalidRequest as error:
        raise errors.BadRequest("A part was not sent, or its ETag is another. PUT it again, then complete.") from error
    services.bucket.delete(name_record(id))
    return {"id": id, "key": record["key"]}


def sign_image(id: str, services: Services) -> str:
    """Return a URL from which the endpoint fetches an uploaded image; it refuses with 404 where there is none."""
    return services.bucket.sign_download(f"{UPLOADS}{id}", READ_SECONDS)


def name_record(id: str) -> str:
    return f"{UPLOADS}{id}.json"


def is_id(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None


def read_request(body: bytes) -> tuple[str, str, int]:
    """Return (kind, a dataset's name without `.zip`, size in bytes). Raises BadRequest, PayloadTooLarge."""
    document = read_object(body, EXAMPLE)
    kind, name, size = (document.get(member) for member in ("kind", "name", "size"))
    if kind not in MOST_BYTES:
        raise errors.BadRequest(f"kind is {str(kind)[:40]!r}. {EXAMPLE}")
    if not isinstance(name, str) and kind == "dataset":
        raise errors.BadRequest(f"A dataset needs a name. {EXAMPLE}")
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise errors.BadRequest(f"size is {str(size)[:40]!r}, and must be the number of bytes. {EXAMPLE}")
    if size > MOST_BYTES[kind]:
        raise errors.PayloadTooLarge(f"The {kind} has {size:,} bytes, and at most {MOST_BYTES[kind]:,} are taken.")
    return kind, re.sub(r"\.zip$", "", name or "", flags=re.IGNORECASE), size


def read_parts(body: bytes) -> list[str]:
    """Return the parts' ETags in the order of their numbers. Raises BadRequest."""
    example = 'Send {"parts": [{"number": 1, "etag": "…"}, …]} with the ETag that each PUT answered.'
    given = read_object(body, example).get("parts")
    try:
        parts = sorted((int(each["number"]), str(each["etag"])) for each in given or ())
    except (TypeError, KeyError, ValueError) as error:
        raise errors.BadRequest(f"The parts cannot be read. {example}") from error
    if not parts or [number for number, _ in parts] != list(range(1, len(parts) + 1)):
        raise errors.BadRequest(f"The parts are not numbered from 1 without a gap. {example}")
    return [etag for _, etag in parts]


def read_object(body: bytes, example: str) -> dict[str, Any]:
    """Return a JSON object. Raises BadRequest."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise errors.BadRequest(f"The body is not JSON ({str(error)[:80]}). {example}") from error
    if not isinstance(document, dict):
        raise errors.BadRequest(f"The body is not a JSON object. {example}")
    return document
