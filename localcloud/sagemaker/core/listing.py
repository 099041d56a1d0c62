"""Filter, sort and page the List operations' records as AWS does."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from localcloud.common.store import Record
from localcloud.protocol.errors import ValidationException
from localcloud.sagemaker.core.cloud import Request

DEFAULT_PAGE = 10


def list_page(
    records: Iterable[Record],
    request: Request,
    *,
    name: str,
    sort_keys: dict[str, str],
    sort_by: str,
    sort_order: str = "Ascending",
    status: str | None = None,
) -> tuple[list[Record], str | None]:
    """Return one page of the records that pass the request's filters, and the token of the next page.

    `name` and `status` are the members that NameContains and StatusEquals compare. `sort_keys` maps the values of
    SortBy to members. `sort_by` and `sort_order` are the operation's defaults.
    """
    kept = [record for record in records if _passes(record, request, name, status)]
    member = sort_keys[request.get("SortBy", sort_by)]
    return take_page(
        kept,
        request,
        key=lambda record: [_to_sortable(record.get(member)), record[name]],
        descending=request.get("SortOrder", sort_order) == "Descending",
    )


def take_page(
    records: list[Record], request: Request, *, key: Callable[[Record], list[Any]], descending: bool
) -> tuple[list[Record], str | None]:
    """Return at most MaxResults of the records after NextToken's, and the next token.

    `key` gives the order as JSON values, of which the last is unique. So a page stays right when records are added or
    removed between two calls.
    """
    ordered = sorted(records, key=key, reverse=descending)
    if "NextToken" in request:
        last = _read_token(request["NextToken"])
        ordered = [record for record in ordered if (key(record) < last if descending else key(record) > last)]
    size = request.get("MaxResults", DEFAULT_PAGE)
    page = ordered[:size]
    return page, _write_token(key(page[-1])) if len(ordered) > size else None


def _passes(record: Record, request: Request, name: str, status: str | None) -> bool:
    created: datetime = record["CreationTime"]
    modified: datetime = record.get("LastModifiedTime") or created
    return (
        request.get("NameContains", "").lower() in record[name].lower()
        and (status is None or request.get("StatusEquals", record[status]) == record[status])
        and _is_between(created, request.get("CreationTimeAfter"), request.get("CreationTimeBefore"))
        and _is_between(modified, request.get("LastModifiedTimeAfter"), request.get("LastModifiedTimeBefore"))
    )


def _is_between(moment: datetime, after: datetime | None, before: datetime | None) -> bool:
    return (after is None or moment > after) and (before is None or moment < before)


def _to_sortable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return "" if value is None else value


def _write_token(key: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _read_token(token: str) -> list[Any]:
    try:
        key = json.loads(base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError) as error:
        raise ValidationException(f"The NextToken {token!r} is not valid.") from error
    if not isinstance(key, list):
        raise ValidationException(f"The NextToken {token!r} is not valid.")
    return key
