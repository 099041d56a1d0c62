"""Which route a request has: wrong paths, wrong methods, HEAD, trailing slashes, and pages of other sites."""

from __future__ import annotations

import json
from typing import Any

import pytest

import app
from chalicelib.pipeline.sweep import sweep
from chalicelib.web.routing import find_page
from tests.fakes.world import World

TOKEN = {"Authorization": "Bearer ann-token"}
FRIEND, STRANGER = "https://shop.example", "https://evil.example"
DOMAIN = "abc.execute-api.us-east-1.amazonaws.com"


def ask(world: World, method: str, path: str, headers: dict[str, str] = TOKEN, resource: str = "/{proxy+}") -> Any:
    """Ask the app as API Gateway does where no resource of its own has the path."""
    app.services.current = world.services()
    event = {
        "path": path, "headers": headers, "pathParameters": {"proxy": path[1:]},
        "multiValueQueryStringParameters": None, "stageVariables": None, "body": None, "isBase64Encoded": False,
        "requestContext": {
            "httpMethod": method, "resourcePath": resource, "path": f"/api{path}", "domainName": DOMAIN, "identity": {},
        },
    }  # fmt: skip
    return app.app(event, None)


def read_code(answer: Any) -> str:
    return str(json.loads(answer["body"])["error"]["code"])


@pytest.mark.parametrize("path", ["/nothing", "/runs/x/y/z", "/models/dogs/predict/now", "/RUNS"])
def test_an_unknown_path_is_404_in_our_form(world: World, path: str) -> None:
    """The message says where the routes are listed."""
    answer = ask(world, "GET", path)
    assert (answer["statusCode"], read_code(answer)) == (404, "NotFound")


@pytest.mark.parametrize(("method", "path"), [("POST", "/runs"), ("GET", "/models/dogs/predict"), ("PATCH", "/")])
def test_a_wrong_method_is_405_and_names_the_right_ones(world: World, method: str, path: str) -> None:
    """Allow lists them, as RFC 9110 asks."""
    answer = ask(world, method, path)
    assert (answer["statusCode"], read_code(answer)) == (405, "MethodNotAllowed")
    assert method not in answer["headers"]["Allow"].split(", ")
    assert "OPTIONS" in answer["headers"]["Allow"]


@pytest.mark.parametrize("path", ["/runs/", "/models/", "/health//"])
def test_a_trailing_slash_is_the_same_route(world: World, path: str) -> None:
    """So a client that adds one is served."""
    assert ask(world, "GET", path)["statusCode"] == 200


def test_head_is_answered_where_get_is(world: World) -> None:
    """With the status and headers of GET, and no body."""
    head, get = ask(world, "HEAD", "/health"), ask(world, "GET", "/health")
    assert head["statusCode"] == get["statusCode"] == 200
    assert head["headers"] == get["headers"]
    assert head["body"] == ""


@pytest.fixture
def friendly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ORIGINS", f"{FRIEND},http://localhost:3000")


PREDICT = "/models/dogs/predict"


@pytest.mark.parametrize("path", [PREDICT, "/uploads"])
def test_a_friendly_sites_preflight_is_answered_without_a_token(world: World, friendly: None, path: str) -> None:
    """A browser may then send the token and a content type."""
    headers = ask(world, "OPTIONS", path, {"Origin": FRIEND})["headers"]
    assert headers["Access-Control-Allow-Origin"] == FRIEND
    assert "POST" in headers["Access-Control-Allow-Methods"]
    assert "Authorization" in headers["Access-Control-Allow-Headers"]
    assert headers["Vary"] == "Origin"


def test_a_friendly_site_may_read_answers_and_errors(world: World, friendly: None) -> None:
    """Errors too, else a page could not show them."""
    answer = ask(world, "POST", PREDICT, {"origin": FRIEND})
    assert answer["statusCode"] == 401
    assert answer["headers"]["Access-Control-Allow-Origin"] == FRIEND


@pytest.mark.parametrize("origin", [STRANGER, "null", f"{FRIEND}.evil.example", "https://SHOP.example"])
def test_a_stranger_gets_no_permission(world: World, friendly: None, origin: str) -> None:
    """Neither for a preflight nor for an answer."""
    for method in ("OPTIONS", "POST"):
        assert "Access-Control-Allow-Origin" not in ask(world, method, PREDICT, {"Origin": origin})["headers"]


@pytest.mark.parametrize("path", ["/runs", "/datasets/dogs", "/models/dogs"])
def test_other_routes_are_for_no_other_site(world: World, friendly: None, path: str) -> None:
    """A friendly site may predict and upload, and nothing else."""
    assert "Access-Control-Allow-Origin" not in ask(world, "OPTIONS", path, {"Origin": FRIEND})["headers"]


def test_by_default_there_is_no_friendly_site(world: World) -> None:
    """The setting is empty until somebody fills it."""
    assert "Access-Control-Allow-Origin" not in ask(world, "OPTIONS", PREDICT, {"Origin": FRIEND})["headers"]


def test_the_description_of_the_api_is_served(world: World) -> None:
    """It is the document that is committed, and needs no token."""
    answer = ask(world, "GET", "/openapi.json", {})
    assert json.loads(answer["body"])["openapi"].startswith("3.")


def test_a_report_that_a_route_writes_links_to_the_page_that_was_asked(world: World) -> None:
    """The routes' function cannot be told its own address; a domain of the page's own still goes first."""
    world.upload("dogs.zip", b"this is no archive")
    sweep(world.services())
    first = world.services().runs.list_all(1)[0][0]["run_id"]
    again = json.loads(ask(world, "POST", f"/runs/{first}/retry")["body"])["run_id"]
    report = world.s3.versions[f"runs/{again}/report.html"][-1].body.decode()
    assert f'href="https://{DOMAIN}/api/#/runs/{again}"' in report
    told = world.services().at_page("https://other.example/").settings.page_url
    assert told == (world.settings.page_url or "https://other.example/")


@pytest.mark.parametrize(
    ("path", "route", "page"),
    [
        ("/api/runs/x/stop", "/runs/{run_id}/stop", f"https://{DOMAIN}/api/"),
        ("/runs/x/stop/", "/runs/{run_id}/stop", f"https://{DOMAIN}/"),
        ("/a/b/runs", "/runs", f"https://{DOMAIN}/a/b/"),
        ("", "/runs", ""),
    ],
)
def test_the_page_is_where_a_request_went_to(path: str, route: str, page: str) -> None:
    """With the stage in the path, behind a domain of its own, behind one with a base path; unknown without a path."""
    assert find_page({"domainName": DOMAIN, "path": path, "resourcePath": route}) == page
