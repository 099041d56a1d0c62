"""Deploy one model in the session's local cloud."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.local_cloud import LocalCloud
from tests.support.pictures import build_colour_zip

ENDED = ("deployed", "declined", "undecided", "failed", "rejected", "stopped", "superseded")
SMALL_RECIPE: dict[str, Any] = {
    "image_size": 32,
    "pretrained": "none",
    "epochs": 1,
    "trials": 2,
    "parallel_trials": 2,
    "ranges": {"batch_size": [16]},
    "promotion": {"when": "always"},  # one epoch on a few images shows nothing of a model
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.end_to_end)


def upload_small_dataset(cloud: LocalCloud, name: str, **recipe: Any) -> None:
    """Upload a recipe and a dataset of three colours to the bucket, as a user does."""
    cloud.upload(f"{name}.json", json.dumps({**SMALL_RECIPE, **recipe}).encode())
    cloud.upload(f"{name}.zip", build_colour_zip())


@pytest.fixture(scope="session")
def deployed_run(cloud: LocalCloud) -> dict[str, Any]:
    """Return a run of the dataset `colours` that has been deployed."""
    upload_small_dataset(cloud, "colours")
    run = cloud.wait_for_status("colours", "deployed", "failed", "rejected", "stopped")
    assert run["status"] == "deployed", run
    return run
