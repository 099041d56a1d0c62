"""The functions of app.py as a caller sees them: events go in, requests are answered."""

from __future__ import annotations

import json
from typing import Any

from chalice.test import Client, HTTPResponse

from tests.fakes.world import BUCKET, World
from tests.support.pictures import build_small_zip

TOKEN = {"Authorization": "Bearer ann-token"}
PICTURE = b"\x89PNG\r\n\x1a\n, as far as the door looks"
ZIP = build_small_zip()
CLEAN = 25  # characters of a message that a user can act on, at the least


def ask(client: Client, method: str, path: str, headers: dict[str, str] = TOKEN, body: bytes = b"") -> HTTPResponse:
    return client.http.request(method, path, headers=headers, body=body)


def read_error(response: HTTPResponse) -> dict[str, str]:
    """Return the error of an answer, which must have our form and must not show our internals."""
    error = json.loads(response.body)["error"]
    assert set(error) == {"code", "message"}
    assert "Traceback" not in error["message"]
    return dict(error)


def deploy(world: World, client: Client, name: str = "dogs") -> str:
    """Let a dataset go the whole way by events. Returns the run's id."""
    world.upload(f"{name}.zip", ZIP)
    send_upload(client, f"datasets/{name}.zip")
    for _ in range(3):
        for kind, changed in world.end_everything():
            send_change(client, kind, changed)
    return world.sagemaker.kept["Endpoint"][next(iter(world.sagemaker.kept["Endpoint"]))]["EndpointConfigName"]


def send_upload(client: Client, key: str, bucket: str = BUCKET) -> None:
    detail = {"bucket": {"name": bucket}, "object": {"key": key}}
    send(client, "on_dataset_uploaded", "aws.s3", "Object Created", detail)


def send_change(client: Client, kind: str, name: str) -> None:
    functions = {
        "HyperParameterTuningJob": "on_tuning_job_changed",
        "TrainingJob": "on_training_job_changed",
        "Endpoint": "on_endpoint_changed",
    }
    send(client, functions[kind], "aws.sagemaker", f"{kind} State Change", {f"{kind}Name": name})


def send(client: Client, function: str, source: str, kind: str, detail: dict[str, Any]) -> None:
    event = client.events.generate_cw_event(source, kind, detail, [])
    client.lambda_.invoke(function, event)


def predict(client: Client, body: bytes = PICTURE, kind: str = "image/png", query: str = "") -> HTTPResponse:
    return ask(client, "POST", f"/models/dogs/predict{query}", TOKEN | {"Content-Type": kind}, body)
