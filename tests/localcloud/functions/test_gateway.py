"""Test the app's routes over HTTP, with API Gateway's events, limits and refusals, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.functions import gateway
from localcloud.functions.environments import FunctionHost
from localcloud.functions.gateway import Gateway, MalformedAnswer, find_route, is_binary, list_routes, render
from localcloud.functions.invoking import Functions
from localcloud.stacks.provisioning import Function
from tests.localcloud.hosting import serve
from tests.localcloud.tiny_app import write_tiny_app

CORS = {
    "type": "mock",
    "responses": {
        "default": {
            "statusCode": "200",
            "responseParameters": {"method.response.header.Access-Control-Allow-Origin": "'*'"},
        }
    },
}
BODY: dict[str, Any] = {
    "paths": {
        "/echo/{name}": {"post": {}},
        "/bytes": {"get": {}, "options": {"x-amazon-apigateway-integration": CORS}},
        "/wrong": {"get": {}},
        "/echo/fixed": {"get": {}},
    },
    "x-amazon-apigateway-binary-media-types": ["image/png", "image/webp", "application/octet-stream"],
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Serve the tiny app behind the gateway, under the stage `api`."""
    host = FunctionHost(write_tiny_app(tmp_path_factory.mktemp("gateway") / "tiny"), "app", {}, lambda _line: None)
    functions = Functions([Function("api", "app.app", {}, 30, 128)], host, region="us-east-1", log=lambda *_: None)
    with serve(Gateway(BODY, stage="api", function="api", invoke=functions.answer)) as url:
        yield httpx.Client(base_url=f"{url}/api", timeout=30)
    functions.close()
    host.close()


def test_binary_bodies_arrive_whole(api: httpx.Client) -> None:
    """They travel in base64, also where the content type has parameters."""
    body = bytes(range(256))
    for content_type in ("image/png", "image/webp; version=1"):
        answer = api.post("/echo/dogs", content=body, headers={"Content-Type": content_type}).json()
        assert answer["size"] == 256


def test_paths_and_queries_reach_the_function(api: httpx.Client) -> None:
    """A path parameter stays percent-encoded, as REST APIs pass it; the stage is part of the request's path."""
    answer = api.post("/echo/a%20b%2Fc?top=5&x=", content=b"1").json()
    assert answer == {"name": "a%20b%2Fc", "query": {"top": "5", "x": ""}, "size": 1, "path": "/api/echo/a%20b%2Fc"}


def test_binary_answers_are_decoded(api: httpx.Client) -> None:
    """The client gets the function's bytes, status and headers."""
    response = api.get("/bytes", headers={"Accept": "image/png"})
    assert (response.status_code, response.content, response.headers["x-made"]) == (201, b"\x00\xff", "here")
    assert response.headers["content-type"] == "image/png"


def test_unknown_routes_are_refused_as_api_gateway_does(api: httpx.Client) -> None:
    """The answer is 403, whether the path or the method is unknown."""
    for method, path in (("GET", "/nothing"), ("DELETE", "/bytes"), ("GET", "/echo/name/more")):
        response = api.request(method, path)
        assert (response.status_code, response.json()) == (403, {"message": "Missing Authentication Token"})


def test_a_preflight_is_answered_without_the_function(api: httpx.Client) -> None:
    """The gateway answers preflights where the app asks for CORS."""
    assert api.options("/bytes").headers["access-control-allow-origin"] == "*"


def test_the_root_leads_to_the_stage(api: httpx.Client) -> None:
    """A browser finds the app at the bare address."""
    root = str(api.base_url).removesuffix("/api/")
    assert httpx.get(f"{root}/").headers["location"] == "/api/"
    assert httpx.get(f"{root}/elsewhere").status_code == 403


def test_too_long_bodies_are_refused(api: httpx.Client) -> None:
    """API Gateway takes 10 MB; Lambda's 6 MB in base64 are 4.5 MB of image. Beyond either, the answer is 413."""
    for size in (4_800_000, 10_600_000):
        response = api.post("/echo/x", content=b"x" * size, headers={"Content-Type": "image/png"})
        assert (response.status_code, response.json()) == (413, {"message": "Request Too Long"})
    assert api.post("/echo/x", content=b"x" * 4_400_000, headers={"Content-Type": "image/png"}).status_code == 200


def test_a_view_that_raises_is_a_500_of_the_apps(api: httpx.Client) -> None:
    """Chalice answers for its views; the gateway answers only for what is not an answer."""
    assert api.get("/wrong").status_code == 500


def test_a_function_without_an_answer_is_a_502(tmp_path: Path) -> None:
    """A result that is not a proxy response, and a failed invocation, are both 502."""
    for answer in ({}, "text", None, {"statusCode": "x"}):
        with pytest.raises(MalformedAnswer):
            render(answer)


def test_a_slow_function_is_a_504() -> None:
    """The limit is 29 s; the test uses a shorter limit and a slower function."""

    class Hasty(Gateway):
        seconds = 0.05

    async def invoke(*_arguments: Any) -> Any:
        await asyncio.sleep(0.3)

    with serve(Hasty(BODY, stage="api", function="f", invoke=invoke)) as url:
        response = httpx.get(f"{url}/api/wrong")
    assert (response.status_code, response.json()) == (504, {"message": "Endpoint request timed out"})
    assert gateway.SECONDS == 29


def test_fixed_paths_go_before_parameters() -> None:
    """A path that only the parameter's resource serves is found too."""
    routes = list_routes(BODY)
    assert find_route(routes, "GET", "/echo/fixed") == ("/echo/fixed", {}, {})
    assert find_route(routes, "POST", "/echo/fixed") == ("/echo/{name}", {}, {"name": "fixed"})


@given(st.text(st.characters(exclude_characters="/", codec="ascii"), min_size=1))
def test_a_parameter_is_one_segment_of_any_text(text: str) -> None:
    """Any text between two slashes is a parameter's value."""
    found = find_route(list_routes({"paths": {"/a/{name}/b": {"get": {}}}}), "GET", f"/a/{text}/b")
    assert found is not None
    assert found[2] == {"name": text}


def test_binary_types() -> None:
    """Case and parameters do not matter; a wildcard matches all types."""
    assert is_binary("Image/PNG; q=1", {"image/png"})
    assert not is_binary("", {"image/png"})
    assert is_binary("", {"*/*"})
