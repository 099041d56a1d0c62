"""The prediction route through the app's own handler: every bad request gets an answer that a user can act on."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs

import pytest
from botocore.exceptions import ClientError

import app
from chalicelib.runs.identity import make_endpoint_name
from tests.events.contract import complaints
from tests.fakes.clients import fail
from tests.fakes.world import SETTINGS, World
from tests.support.hostile.images import CASES, Prediction, draw

HEADERS = {
    "good": {"Authorization": "Bearer ann-token"},
    "none": {},
    "wrong": {"Authorization": "Bearer ann-tokem"},
    "withdrawn": {"Authorization": "Bearer carl-token"},
    "malformed": {"Authorization": "Basic YW5uOmFubi10b2tlbg=="},
}
STATUSES = {"served": "InService", "creating": "Creating", "failed": "Failed"}


def make_world() -> World:
    """Build an account with a model in each state; Carl's token was withdrawn."""
    world = World()
    world.secrets.text = json.dumps({"tokens": {"ann": "ann-token", "carl": "carl-token"}})
    for model, status in STATUSES.items():
        name = make_endpoint_name(SETTINGS, model)
        world.sagemaker.kept["Endpoint"][name] = {
            "EndpointName": name,
            "EndpointStatus": status,
            "FailureReason": "no ping",
        }
    return world


def withdraw(world: World, name: str) -> None:
    """Take a token out of the secret, and let the minute pass for which it is cached."""
    world.secrets.text = json.dumps({"tokens": {"ann": "ann-token"}})
    world.clock.sleep(61)


def choose_container_answer(case: Prediction) -> ClientError | None:
    """Return what InvokeEndpoint does when it does not predict: the container refuses, or there is no endpoint."""
    if case.model in ("creating", "failed"):
        return fail("ValidationError", "Endpoint is not in service.", "InvokeEndpoint")
    if case.by_container:
        message = json.dumps({"error": {"code": "UnreadableImage", "message": "The body is no image."}})
        traceback = "Traceback (most recent call last):\n  File ..., in input_fn"
        details = {"OriginalStatusCode": case.status, "OriginalMessage": f"{message}\n{traceback}"}
        return fail("ModelError", "Received client error from primary", "InvokeEndpoint", **details)
    return None


def make_request(case: Prediction) -> dict[str, Any]:
    """Build the event that API Gateway passes for the case."""
    headers = {"Content-Type": case.content_type, **HEADERS[case.token]}
    query = {name: values[-1] for name, values in parse_qs(case.query, keep_blank_values=True).items()}
    route, path = "/models/{name}/predict", f"/models/{case.model}/predict"
    body = case.build()
    return {
        "resource": route,
        "path": path,
        "httpMethod": "POST",
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": query or None,
        "multiValueQueryStringParameters": {name: [value] for name, value in query.items()} or None,
        "pathParameters": {"name": case.model},
        "stageVariables": None,
        "requestContext": {
            "resourcePath": route,
            "httpMethod": "POST",
            "stage": "api",
            "requestId": "1",
            "identity": {},
        },
        "body": base64.b64encode(body).decode() if body else None,
        "isBase64Encoded": bool(body),
    }


def ask(world: World, case: Prediction) -> dict[str, Any]:
    app.services.use(world.services())
    request = make_request(case)
    assert complaints("api-gateway-request", request) == []
    return app.app(request, None)


@pytest.mark.parametrize("name", CASES)
def test_request_gets_the_answer_it_must(name: str) -> None:
    """Status, code and Retry-After are as the case says, and a refusal has a sentence."""
    case, world = CASES[name], make_world()
    world.runtime.answer = choose_container_answer(case) or world.runtime.answer
    if case.token == "withdrawn":
        assert ask(world, Prediction(200, token="withdrawn"))["statusCode"] == 200
        withdraw(world, "carl")
    answer = ask(world, case)
    body = json.loads(answer["body"])
    assert answer["statusCode"] == case.status, body
    assert ("Retry-After" in answer["headers"]) == case.retry_after
    if case.status == 200:
        assert len(body["results"][0]["predictions"]) <= (case.predictions or 10)
        assert body["milliseconds"] >= 0
    else:
        assert case.code in (None, body["error"]["code"])
        assert len(body["error"]["message"].split()) > 3
        assert "Traceback" not in answer["body"]
        assert "{" not in body["error"]["message"]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.status == 401])
def test_who_has_no_token_moves_nothing(name: str) -> None:
    """Without a token no endpoint is asked, and the answer does not reveal which models exist."""
    case, world = CASES[name], make_world()
    withdraw(world, "carl")
    ask(world, case)
    assert world.runtime.asked == []
    assert not any("describe" in call for call in world.trouble.calls)


def test_the_bytes_reach_the_endpoint_as_they_are() -> None:
    """The container gets the bytes that the client sent, whose format it reads from themselves."""
    world = make_world()
    ask(world, Prediction(200, content_type="Image/PNG; charset=binary"))
    (asked,) = world.runtime.asked
    assert asked["Body"] == draw()
    assert asked["ContentType"] == "application/octet-stream"
