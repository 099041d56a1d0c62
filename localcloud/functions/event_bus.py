"""Deliver events on EventBridge's default bus to the queues of the rules that match them.

Rules and queues are moto's, so AWS's APIs can read and change them. The step between is ours, because moto delivers
events without `account` and with `ingestion-time`, delivers to disabled rules too, and takes no lock on its queues.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from moto.events import models as moto_events_models
from moto.sqs.models import sqs_backends

from localcloud.stacks.provisioning import ACCOUNT

Event = dict[str, Any]
moto_events: Any = moto_events_models  # a method is replaced below, which moto's types do not allow
MEMBERS = ("version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail")
_send_elsewhere = moto_events.Rule.send_to_targets
queue_lock = threading.RLock()
"""Held around every use of moto's queues: moto drops a message that is added while another is deleted."""


def stamp(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def build_event(source: str, detail_type: str, detail: Any, resources: list[str], region: str) -> Event:
    """Build an event as EventBridge delivers it."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": detail_type,
        "source": source,
        "account": ACCOUNT,
        "time": stamp(datetime.now(UTC)),
        "region": region,
        "resources": resources,
        "detail": detail,
    }


def normalise(event: Event) -> Event:
    """Convert moto's form of an event to AWS's: its nine members, with the time as text."""
    time = event.get("time")
    if isinstance(time, int | float):
        event = event | {"time": stamp(datetime.fromtimestamp(time, UTC))}
    return {name: event[name] for name in MEMBERS if name in event}


def send_to_queues(rule: Any, event: Event, transform_input: bool = True) -> None:
    """Deliver an event to one rule's targets where the rule matches. Replaces moto's own method."""
    if rule.state != "ENABLED" or not rule.event_pattern.matches_event(event):
        return
    targets, event = rule.targets, normalise(event)
    plain = [
        one for one in targets if ":sqs:" in one["Arn"] and not {"Input", "InputPath", "InputTransformer"} & one.keys()
    ]
    for target in plain:
        with queue_lock:
            sqs_backends[rule.account_id][rule.region_name].send_message(
                queue_name=target["Arn"].rpartition(":")[2], message_body=json.dumps(event)
            )
    # moto does not know functions as targets and would fail the request that caused the event. Functions of stacks
    # that were created here do not run, so they are left out.
    rest = [target for target in targets if target not in plain and ":lambda:" not in target["Arn"]]
    if rest:
        rule.targets = rest
        try:
            _send_elsewhere(rule, event, transform_input)
        finally:
            rule.targets = targets


class EventBus:
    """The default bus of one region. `wake` is called when a queue may hold a new message."""

    def __init__(self, region: str, wake: Callable[[], None]) -> None:
        self._region, self._wake = region, wake
        moto_events.Rule.send_to_targets = send_to_queues

    def put(self, event: Event) -> None:
        """Deliver a complete event, also one from AWS's own sources, which PutEvents does not accept."""
        bus = moto_events.events_backends[ACCOUNT][self._region].describe_event_bus("default")
        for rule in list(bus.rules.values()):
            send_to_queues(rule, event)
        self._wake()

    def emit(self, source: str, detail_type: str, detail: dict[str, Any], resources: list[str]) -> None:
        self.put(build_event(source, detail_type, detail, resources, self._region))
