"""The committed OpenAPI document, and the routes that it describes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chalice.test import Client
from jsonschema import Draft202012Validator

from app import VERSION, app
from chalicelib.web.openapi import describe_app, write_document
from tests.chalicelib.app_client import ask, deploy, predict
from tests.fakes.world import World

COMMITTED = Path(__file__).parents[3] / "openapi.json"


def test_the_committed_document_is_the_apps() -> None:
    """Whoever changes a route runs: python -m chalicelib.web.openapi app:app > openapi.json."""
    assert COMMITTED.read_text(encoding="utf-8") == write_document(describe_app(app, VERSION))


@pytest.mark.parametrize(
    "path", ["/health", "/models", "/models/dogs", "/runs", "/runs/RUN", "/runs/RUN/curves", "/runs/RUN/jobs"]
)
def test_answers_are_as_the_document_says(world: World, client: Client, path: str) -> None:
    """Each route's answer matches the schema of its answer."""
    run_id = deploy(world, client)
    response = ask(client, "GET", path.replace("RUN", run_id))
    check_answer(path.replace("dogs", "{name}").replace("RUN", "{run_id}"), "get", json.loads(response.body))


def test_predictions_are_as_the_document_says(world: World, client: Client) -> None:
    """The same holds for the route that classifies images."""
    deploy(world, client)
    check_answer("/models/{name}/predict", "post", json.loads(predict(client).body))


def check_answer(path: str, method: str, answer: object) -> None:
    document = json.loads(COMMITTED.read_text(encoding="utf-8"))
    schema = document["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
    Draft202012Validator.check_schema(schema)
    assert [error.message for error in Draft202012Validator(schema).iter_errors(answer)] == []


def test_every_summary_says_something() -> None:
    """A route's docstring is its summary."""
    routes = [each for methods in describe_app(app, VERSION)["paths"].values() for each in methods.values()]
    assert all(route["summary"].endswith(".") for route in routes)
