"""Publish what happens to a run: events to EventBridge's default bus, messages to an SNS topic."""

from __future__ import annotations

import json
from typing import Any

from chalicelib.aws.clients import translated
from chalicelib.aws.errors import ERRORS
from chalicelib.errors import ServiceError


class Publisher:
    """Publishes to EventBridge's default bus, and to an SNS topic if there is one."""

    def __init__(self, events: Any, sns: Any, topic_arn: str) -> None:
        self._events = events
        self._sns = sns
        self._topic_arn = topic_arn

    def put_event(self, source: str, detail_type: str, detail: dict[str, Any]) -> None:
        """Put one event on the bus. Raises ServiceError also if PutEvents accepts the call but rejects the event."""
        entry = {"Source": source, "DetailType": detail_type, "Detail": json.dumps(detail)}
        with translated(f"PutEvents {detail_type}"):
            answer = self._events.put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            failed = answer["Entries"][0]
            kind = ERRORS.get(failed.get("ErrorCode", ""), ServiceError)
            raise kind(f"PutEvents {detail_type}: {failed.get('ErrorCode')}: {failed.get('ErrorMessage')}")

    def publish(self, subject: str, message: dict[str, Any]) -> None:
        """Publish one message to the topic. Does nothing without a topic."""
        if self._topic_arn:
            with translated(f"Publish to {self._topic_arn}"):
                self._sns.publish(TopicArn=self._topic_arn, Subject=subject, Message=json.dumps(message))
