"""Name a run's notifications, and the marks that say on which channel each was sent. Pure."""

from __future__ import annotations

from collections.abc import Collection

STAGE_NOTICES = {"tuning": "Tuning Started", "training": "Training Started", "deploying": "Deployment Started"}
FINAL_NOTICES = {
    "rejected": "Dataset Rejected",
    "deployed": "Model Deployed",
    "declined": "Model Declined",
    "undecided": "Model Undecided",
    "failed": "Run Failed",
    "stopped": "Run Stopped",
    "superseded": "Run Superseded",
}
CHANNELS = ("event", "message")  # EventBridge's bus and the SNS topic: either may refuse while the other takes


def name_notice(notice: str) -> str:
    """Return the file name of a notification: `Model Deployed` becomes `model-deployed`."""
    return notice.lower().replace(" ", "-")


def name_mark(notice: str, channel: str) -> str:
    """Return the file in the run's folder that says that a notification was sent on a channel."""
    return f"notices/{name_notice(notice)}.{channel}.json"


def list_unsent(notice: str, files: Collection[str]) -> list[str]:
    """List the channels on which a notification was not sent. Earlier versions had one mark for both channels."""
    if f"notices/{name_notice(notice)}.json" in files:
        return []
    return [channel for channel in CHANNELS if name_mark(notice, channel) not in files]
