"""Build the tags on everything that a run makes: they mark it as ours and separate its cost. Pure."""

from __future__ import annotations

import re

from chalicelib.runs.identity import Run
from chalicelib.settings import Settings

NOT_IN_TAG = re.compile(r"[^\w .:/=+\-@]")


def build_tags(run: Run, settings: Settings) -> list[dict[str, str]]:
    """Build the tags of a run. SageMaker's tags allow fewer characters than S3's keys."""
    tags = dict(settings.cost_tags) | {
        "whippet:app": settings.app_name,
        "whippet:stage": settings.stage,
        "whippet:run": run.run_id,
        "whippet:dataset": make_tag_value(run.dataset),
    }
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def make_tag_value(name: str) -> str:
    return NOT_IN_TAG.sub("_", name)[:256]
