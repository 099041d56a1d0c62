"""Keep the tags of everything that has an ARN: AddTags, ListTags, DeleteTags, and helpers for other operations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from localcloud.protocol.errors import ValidationException
from localcloud.sagemaker.core.cloud import Cloud, Request, Response, operation

TAGGED = ("training-job", "hyper-parameter-tuning-job", "model", "endpoint-config", "endpoint")
MOST_TAGS = 50


@operation
def add_tags(cloud: Cloud, request: Request) -> Response:
    """Add tags to a resource, replacing those with the same keys. Returns all of its tags."""
    arn = _require_resource(cloud, request["ResourceArn"])
    _refuse_reserved(tag["Key"] for tag in request["Tags"])
    with cloud.lock:
        tags = read_tags(cloud, arn) | {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        _write_tags(cloud, arn, tags)
    return {"Tags": _to_list(tags)}


@operation
def list_tags(cloud: Cloud, request: Request) -> Response:
    """Return all tags of a resource. It has at most 50, so there is never a second page."""
    return {"Tags": _to_list(read_tags(cloud, _require_resource(cloud, request["ResourceArn"])))}


@operation
def delete_tags(cloud: Cloud, request: Request) -> Response:
    """Remove tags from a resource by their keys. Unknown keys are ignored."""
    arn = _require_resource(cloud, request["ResourceArn"])
    _refuse_reserved(request["TagKeys"])
    with cloud.lock:
        _write_tags(cloud, arn, {k: v for k, v in read_tags(cloud, arn).items() if k not in request["TagKeys"]})
    return {}


def put_tags(cloud: Cloud, arn: str, tags: list[dict[str, str]] | None) -> None:
    """Set the tags of a Create request. Raises ValidationException on duplicate and reserved keys."""
    keys = [tag["Key"] for tag in tags or []]
    if len(set(keys)) < len(keys):
        raise ValidationException("Duplicate tag keys found. Please remove the duplicates.")
    _refuse_reserved(keys)
    _write_tags(cloud, arn, {tag["Key"]: tag["Value"] for tag in tags or []})


def read_tags(cloud: Cloud, arn: str) -> dict[str, str]:
    """Return the tags of a resource as a map."""
    tags: dict[str, str] = (cloud.store.get("tags", arn) or {}).get("Tags", {})
    return tags


def list_tagged(cloud: Cloud) -> list[tuple[str, dict[str, str]]]:
    """Return the ARN and the tags of everything that has tags."""
    return [(arn, read_tags(cloud, arn)) for arn in cloud.store.names("tags")]


def drop_tags(cloud: Cloud, arn: str) -> None:
    """Delete the tags of a deleted resource."""
    cloud.store.delete("tags", arn)


def _refuse_reserved(keys: Iterable[str]) -> None:
    for key in keys:
        if key.lower().startswith("aws:"):
            raise ValidationException(f"System prefix 'aws:' reserved for AWS usage in tag key: {key}")


def _write_tags(cloud: Cloud, arn: str, tags: dict[str, str]) -> None:
    if len(tags) > MOST_TAGS:
        raise ValidationException(f"A resource can have at most {MOST_TAGS} tags; {arn} would have {len(tags)}.")
    cloud.store.put("tags", arn, {"Tags": tags})


def _require_resource(cloud: Cloud, arn: str) -> str:
    kind, _, name = arn.rpartition(":")[2].partition("/")
    wanted = cloud.arn(kind, name)
    names = cloud.store.names(kind) if kind in TAGGED else []
    if wanted != arn.lower() or name.lower() not in (known.lower() for known in names):
        raise ValidationException(f"Could not find the resource {arn!r}.")
    return wanted


def _to_list(tags: dict[str, str]) -> list[dict[str, Any]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
