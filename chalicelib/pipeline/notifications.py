"""Send a run's notifications: an event on EventBridge's default bus, and a message of the same JSON to the SNS topic.

Each is sent once on each channel, however often its cause is seen: the sender holds a claim, and leaves the sent detail
in the run's folder as `notices/NAME.CHANNEL.json`. If the sender dies between sending and writing, it is sent again: at
least once, then.
"""

from __future__ import annotations

from typing import Any

from chalicelib import errors
from chalicelib.runs.claims import release_claim, take_claim
from chalicelib.runs.identity import Run
from chalicelib.runs.notices import FINAL_NOTICES, STAGE_NOTICES, list_unsent, name_mark, name_notice
from chalicelib.runs.observation import Observation
from chalicelib.services import Services

SOURCE = "whippet"
MAX_SUBJECT = 99
STATUSES = {notice: status for status, notice in {**STAGE_NOTICES, **FINAL_NOTICES}.items()}


def send_notice(notice: str, seen: Observation, services: Services) -> frozenset[str]:
    """Send one notification on each channel that has not had it. Returns the marks of those that have.

    A channel that refuses keeps the other from nothing, and is tried again by the next look. Nothing is sent while
    another look sends, and nothing of a run that was removed meanwhile. Raises ServiceError if the bucket fails.
    """
    folder = seen.run.folder
    if services.bucket.describe(f"{folder}run.json") is None:  # its marks went with it, and all would be sent again
        return frozenset()
    key = f"{folder}notices/{name_notice(notice)}.claim"
    claim = take_claim(services.bucket, key, services.make_id(), services.clock.now())
    if claim is None:
        return frozenset()
    try:
        marks = {channel: name_mark(notice, channel) for channel in list_unsent(notice, seen.files)}
        return frozenset(mark for channel, mark in marks.items() if _send(notice, channel, mark, seen, services))
    finally:
        release_claim(services.bucket, claim, services.clock.now())


def _send(notice: str, channel: str, mark: str, seen: Observation, services: Services) -> bool:
    """Send one notification on one channel, unless its mark is there. Returns whether it was sent, now or before."""
    if services.bucket.describe(f"{seen.run.folder}{mark}"):
        return True
    detail = build_detail(notice, seen)
    try:
        if channel == "event":
            services.publisher.put_event(SOURCE, notice, detail)
        else:
            services.publisher.publish(build_subject(notice, seen.run), detail)
    except errors.ServiceError:
        services.log.exception("a notification could not be sent", extra={"notice": notice, "channel": channel})
        return False
    services.runs.write_file(seen.run.run_id, mark, detail)
    return True


def build_detail(notice: str, seen: Observation) -> dict[str, Any]:
    """Build the event's detail. Its schema is events/schemas/whippet-detail.schema.json."""
    run, result = seen.run, seen.result or {}
    detail: dict[str, Any] = {
        "event": notice,
        "run_id": run.run_id,
        "dataset": run.dataset,
        "status": STATUSES[notice],
        "at": seen.now.isoformat(),
    }
    if notice in FINAL_NOTICES.values():
        detail |= {name: result[name] for name in ("reason", "metrics") if result.get(name)}
    if notice == "Dataset Rejected" and seen.dataset:
        detail["problems"] = [
            each if isinstance(each, dict) else {"message": str(each)} for each in seen.dataset["problems"]
        ]
    if cost := describe_cost(seen):
        detail["cost"] = cost
    names = {
        "Tuning Started": {"tuning_job": run.run_id},
        "Training Started": {"training_job": seen.training.name if seen.training else run.training_job},
        "Deployment Started": {"model": run.run_id, "endpoint": run.endpoint},
        "Model Deployed": {"model": run.run_id, "endpoint": run.endpoint},
    }
    return detail | names.get(notice, {})


def describe_cost(seen: Observation) -> dict[str, Any]:
    """Return what is known of the run's cost: expected, worst, and once the run has ended, spent."""
    cost = (seen.result or {}).get("cost") or seen.run.cost or {}
    told = {name: cost.get(name) for name in ("expected_usd", "worst_usd", "spent_usd")}
    return {name: value for name, value in told.items() if value is not None}


def build_subject(notice: str, run: Run) -> str:
    """Build a subject line: ASCII, fewer than 100 characters."""
    dataset = "".join(sign if " " <= sign <= "~" else "?" for sign in run.dataset)
    return f"{notice}: {dataset}"[:MAX_SUBJECT]
