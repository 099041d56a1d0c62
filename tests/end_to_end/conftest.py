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
    "ranges": {
        "batch_size": [16],
        "learning_rate": {"min": 0.2, "max": 1.5},
    },  # where one epoch tells the colours apart
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


class Secret:
    """Edit the secret with the app's tokens as an operator does."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.client = cloud.client("secretsmanager")
        (secret,) = self.client.list_secrets()["SecretList"]
        self.arn = secret["ARN"]
        self.tokens = json.loads(self.client.get_secret_value(SecretId=self.arn)["SecretString"])["tokens"]

    def put(self, **more: str) -> None:
        """Keep the existing tokens, and add these."""
        document = {"tokens": {**self.tokens, **more}}
        self.client.put_secret_value(SecretId=self.arn, SecretString=json.dumps(document))


@pytest.fixture(scope="session")
def secret(cloud: LocalCloud) -> Secret:
    """Return the tokens, with Carl's among them long before a test needs it: the app takes up to a minute to notice."""
    secret = Secret(cloud)
    secret.put(carl="carl-token")
    return secret


@pytest.fixture(scope="session")
def deployed_run(cloud: LocalCloud, secret: Secret) -> dict[str, Any]:
    """Return a run of the dataset `colours` that has been deployed."""
    upload_small_dataset(cloud, "colours")
    run = cloud.wait_for_status("colours", "deployed", "failed", "rejected", "stopped")
    assert run["status"] == "deployed", run
    return run
