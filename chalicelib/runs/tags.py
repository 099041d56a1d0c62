"""The tags on everything that a run makes: by them a thing is known as ours, and its cost is told apart. Pure."""

from __future__ import annotations

import re

from chalicelib.runs.identity import Run
from chalicelib.settings import Settings

NOT_IN_TAG = re.compile(r"[^\w .:/=+\-@]")


def build_tags(run: Run, settings: Settings) -> list[dict[str, str]]:
    """The tags on everything that a run makes. SageMaker's tags hold fewer signs than S3's keys."""
    tags = dict(settings.cost_tags) | {
        "whippet:app": settings.app_name,
        "whippet:stage": settings.stage,
        "whippet:run": run.run_id,
        "whippet:dataset": make_tag_value(run.dataset),
    }
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def make_tag_value(name: str) -> str:
    return NOT_IN_TAG.sub("_", name)[:256]
