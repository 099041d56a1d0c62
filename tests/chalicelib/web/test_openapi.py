"""The committed OpenAPI document, and the routes that it describes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    schema |= {"components": document["components"]}  # a schema refers to others by their place in the document
    Draft202012Validator.check_schema(schema)
    assert [error.message for error in Draft202012Validator(schema).iter_errors(answer)] == []


def test_every_summary_says_something() -> None:
    """A route's docstring is its summary."""
    routes = [each for methods in describe_app(app, VERSION)["paths"].values() for each in methods.values()]
    assert all(route["summary"].endswith(".") for route in routes)


def list_fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every member of a schema, at any depth, with its place."""
    for name, member in schema.get("properties", {}).items():
        yield f"{path}.{name}", member
        yield from list_fields(member, f"{path}.{name}")


def test_every_field_has_a_description_and_an_example() -> None:
    """What a reader of the document sees of each; a reference's example is in what it refers to."""
    schemas = describe_app(app, VERSION)["components"]["schemas"]
    found = [each for name, schema in schemas.items() for each in list_fields(schema, name)]
    assert len(found) > 100
    assert [path for path, field in found if "description" not in field] == []
    assert [path for path, field in found if "examples" not in field and "$ref" not in field] == []


def test_every_route_has_a_tag_and_every_parameter_an_example() -> None:
    """Tags group the routes, and each tag is described."""
    document = describe_app(app, VERSION)
    routes = [each for methods in document["paths"].values() for each in methods.values()]
    assert {tag for route in routes for tag in route["tags"]} == {tag["name"] for tag in document["tags"]}
    assert all("example" in each and each["description"] for route in routes for each in route["parameters"])
