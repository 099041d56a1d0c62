"""Build the EventBridge events that SageMaker sends on every change of state, in AWS's shapes.

Source: AWS's guide, "Events that Amazon SageMaker AI sends to Amazon EventBridge": times are epoch milliseconds, tags
are a map, and members without a value are explicit nulls.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from localcloud.common.store import Record
from localcloud.sagemaker.core.cloud import Cloud, Event
from localcloud.sagemaker.core.tags import read_tags

log = logging.getLogger(__name__)
TRAINING_JOB = "SageMaker Training Job State Change"
TUNING_JOB = "SageMaker HyperParameter Tuning Job State Change"
ENDPOINT = "SageMaker Endpoint State Change"
ENDPOINT_DEPLOYMENT = "SageMaker Endpoint Deployment State Change"


def build_event(cloud: Cloud, detail_type: str, arn: str, detail: dict[str, Any]) -> Event:
    """Wrap a detail in the envelope that EventBridge delivers."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": detail_type,
        "source": "aws.sagemaker",
        "account": cloud.account,
        "time": cloud.clock.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": cloud.region,
        "resources": [arn],
        "detail": detail,
    }


def describe_change(record: Record, members: Iterable[str], tags: dict[str, str]) -> dict[str, Any]:
    """Return a record as an event's detail: these members, null where missing, and the tags as a map."""
    return {**{name: to_event_value(record.get(name)) for name in members}, "Tags": tags}


def emit_change(cloud: Cloud, detail_type: str, arn: str, record: Record, members: Iterable[str]) -> None:
    """Send the event of a record's new state.

    An event that cannot be sent is lost, as AWS's may be. The state has changed already, and whoever reported the
    change must not fail because of the bus.
    """
    event = build_event(cloud, detail_type, arn, describe_change(record, members, read_tags(cloud, arn)))
    try:
        cloud.emit(event)
    except Exception:
        log.exception("the event %s of %s is lost", detail_type, arn)


def to_event_value(value: Any) -> Any:
    """Return a value as events carry it: times as epoch milliseconds."""
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    if isinstance(value, dict):
        return {key: to_event_value(item) for key, item in value.items()}
    return [to_event_value(item) for item in value] if isinstance(value, list) else value
