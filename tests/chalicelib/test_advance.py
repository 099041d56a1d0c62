"""The whole way of a run, over fakes that answer as AWS does."""

from __future__ import annotations

import json

import pytest

from chalicelib.advance import advance
from chalicelib.intake import look_at_dataset, retry_run, stop_run, sweep
from tests.fakes import World
from tests.support.pictures import build_colour_zip

ZIP = build_colour_zip()


def start(world: World, name: str = "dogs", recipe: object = None) -> str:
    """Upload a dataset, and let its event come."""
    if recipe is not None:
        world.upload(f"{name}.json", json.dumps(recipe).encode())
    world.upload(f"{name}.zip", ZIP)
    run_id = look_at_dataset(name, world.services())
    assert run_id
    return run_id


def go_on(world: World, run_id: str) -> str:
    """What runs ends, and its event comes."""
    world.end_everything()
    return advance(run_id, world.services())


def test_an_upload_becomes_a_model_that_serves() -> None:
    """Upload, tuning, training, endpoint, result: one of each, and word of every step."""
    world = World()
    run_id = start(world)
    assert [go_on(world, run_id) for _ in range(3)] == ["training", "deploying", "deployed"]
    result = world.read(f"runs/{run_id}/result.json")
    assert result["status"] == "deployed"
    assert result["metrics"]["test"]["accuracy"] == 0.95
    assert [operation for operation, _ in world.sagemaker.requests] == [
        "CreateHyperParameterTuningJob",
        "CreateTrainingJob",
        "CreateModel",
        "CreateEndpointConfig",
        "CreateEndpoint",
    ]
    assert [name for name, _ in world.events.sent] == [
        "Tuning Started",
        "Training Started",
        "Deployment Started",
        "Model Deployed",
    ]
    assert world.list_keys("active/") == []
