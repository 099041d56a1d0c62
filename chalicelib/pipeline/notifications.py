"""Send a run's notifications: an event on EventBridge's default bus, and a message of the same JSON to the SNS topic.

Each is sent once on each channel, however often its cause is seen: the sender holds a claim, and leaves the sent detail
in the run's folder as `notices/NAME.CHANNEL.json`, its mark. If the sender dies between sending and marking, nobody
knows whether it was sent. It is then sent once more, but marked first, so it never goes out three times.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chalicelib import errors
from chalicelib.runs.claims import release_claim, take_claim
from chalicelib.runs.identity import Run
from chalicelib.runs.notices import CHANNELS, FINAL_NOTICES, STAGE_NOTICES, list_unsent, name_mark, name_notice
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
    if _is_removed(seen.run, services):
        return frozenset()
    key = f"{seen.run.folder}notices/{name_notice(notice)}.claim"
    claim = take_claim(services.bucket, key, services.make_id(), services.clock.now())
    if claim is None:
        return frozenset()
    doubtful = set(CHANNELS if claim.left is None else claim.left)
    try:
        if _is_removed(seen.run, services):  # the claim was taken in a folder that is gone
            services.bucket.delete(key)
            return frozenset()
        return frozenset(_send_on_channels(notice, doubtful, seen, services))
    finally:
        release_claim(services.bucket, claim, services.clock.now(), doubtful)


def _is_removed(run: Run, services: Services) -> bool:
    """Return whether a run is no longer there: the marks of what was sent went with it, and all would be sent again."""
    return services.bucket.describe(f"{run.folder}run.json") is None


def _send_on_channels(notice: str, doubtful: set[str], seen: Observation, services: Services) -> Iterator[str]:
    """Send one notification on each channel whose mark is missing. Yields the marks that are there afterwards.

    `doubtful` are the channels on which it may have been sent without a mark. It is kept up to date.
    """
    for channel in list_unsent(notice, seen.files):
        mark = name_mark(notice, channel)
        sent = services.bucket.describe(f"{seen.run.folder}{mark}") is not None
        if not sent:
            send = _send_marked if channel in doubtful else _send_then_mark
            doubtful.add(channel)
            sent = send(notice, channel, seen, services)
        doubtful.discard(channel)
        if sent:
            yield mark


def _send_then_mark(notice: str, channel: str, seen: Observation, services: Services) -> bool:
    """Send a notification, then mark it. Returns whether it was sent. Raises ServiceError if it cannot be marked."""
    sent = _send(notice, channel, seen, services)
    if sent:
        services.runs.write_file(seen.run.run_id, name_mark(notice, channel), build_detail(notice, seen, services))
    return sent


def _send_marked(notice: str, channel: str, seen: Observation, services: Services) -> bool:
    """Mark a notification as sent, then send it, and take the mark back if the channel refuses. Returns as above."""
    mark = name_mark(notice, channel)
    services.runs.write_file(seen.run.run_id, mark, build_detail(notice, seen, services))
    sent = _send(notice, channel, seen, services)
    if not sent:
        services.bucket.delete(f"{seen.run.folder}{mark}")
    return sent


def _send(notice: str, channel: str, seen: Observation, services: Services) -> bool:
    """Send a notification on one channel. Returns False if the channel refuses it, which is logged."""
    detail = build_detail(notice, seen, services)
    try:
        if channel == "event":
            services.publisher.put_event(SOURCE, notice, detail)
        else:
            services.publisher.publish(build_subject(notice, seen.run), detail)
    except errors.ServiceError:
        services.log.exception("a notification could not be sent", extra={"notice": notice, "channel": channel})
        return False
    return True


def build_detail(notice: str, seen: Observation, services: Services) -> dict[str, Any]:
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
        detail["cost"] = cost | {"billed": services.settings.billed}
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
