"""The functions of app.py, invoked as Lambda invokes them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from chalice.test import Client

from app import app
from chalicelib.errors import Throttled
from tests.chalicelib.app_client import (
    CLEAN,
    PICTURE,
    ZIP,
    ask,
    deploy,
    predict,
    read_error,
    send,
    send_change,
    send_upload,
)
from tests.events.contract import load, name_of, samples
from tests.fakes.clients import fail
from tests.fakes.world import BUCKET, World
from tests.support.pictures import build_small_zip


def test_events_alone_take_an_upload_to_a_model(world: World, client: Client) -> None:
    """The four event rules are enough: upload, tuning, training and endpoint."""
    run_id = deploy(world, client)
    run = json.loads(ask(client, "GET", f"/runs/{run_id}").body)
    assert run["status"] == "deployed"
    assert [trial["objective"] for trial in run["trials"]] == [0.80, 0.93]
    assert run["best"]["hyperparameters"]["learning_rate"] == "0.2"
    assert run["training"]["status"] == "Completed"
    assert run["recipe"]["architecture"] == "resnet18"
    assert run["links"]["folder"] == f"s3://{BUCKET}/runs/{run_id}/"
    listed = json.loads(ask(client, "GET", "/runs").body)["runs"]
    assert [(each["run_id"], each["dataset"], each["status"]) for each in listed] == [(run_id, "dogs", "deployed")]


def test_the_sweep_alone_takes_an_upload_to_a_model(world: World, client: Client) -> None:
    """With every event lost, the schedule is enough."""
    world.upload("dogs.zip", ZIP)
    for _ in range(5):
        send(client, "sweep", "aws.events", "Scheduled Event", {})
        world.end_everything()
    send(client, "sweep", "aws.events", "Scheduled Event", {})
    assert json.loads(ask(client, "GET", "/runs").body)["runs"][0]["status"] == "deployed"


def test_the_key_of_an_upload_is_taken_as_it_is(world: World, client: Client) -> None:
    """EventBridge does not encode keys: a plus and a percent sign are themselves."""
    world.upload("cats+dogs 100%.zip", ZIP)
    send_upload(client, "datasets/cats+dogs 100%.zip")
    assert json.loads(ask(client, "GET", "/runs").body)["runs"][0]["dataset"] == "cats+dogs 100%"


@pytest.mark.parametrize(
    "key", ["datasets/a/b.zip", "datasets/dogs.txt", "datasets/.zip", "other/dogs.zip", "datasets/"]
)
def test_other_keys_begin_nothing(world: World, client: Client, key: str) -> None:
    """A run begins for `datasets/NAME.zip` and nothing else."""
    world.s3.store(key, ZIP)
    send_upload(client, key)
    assert world.list_keys("runs/") == []


def test_another_buckets_upload_begins_nothing(world: World, client: Client) -> None:
    """The rule matches every bucket that sends events; the app looks at its own."""
    world.upload("dogs.zip", ZIP)
    send_upload(client, "datasets/dogs.zip", bucket="elsewhere")
    assert world.list_keys("runs/") == []


@pytest.mark.parametrize(
    "name", ["whippet-prod-dogs-12345678", "whippet-dev-dogs-12345678", "whippet-dev-x-001-0123abcd"]
)
def test_jobs_of_no_run_are_passed_over(world: World, client: Client, name: str) -> None:
    """Another stage's jobs, jobs without a run, and trials change nothing and cause no failure."""
    for kind in ("HyperParameterTuningJob", "TrainingJob", "Endpoint"):
        send_change(client, kind, name)
    assert world.sagemaker.requests == []


FUNCTIONS = {
    "s3-object-created": "on_dataset_uploaded",
    "sagemaker-tuning-job-state-change": "on_tuning_job_changed",
    "sagemaker-training-job-state-change": "on_training_job_changed",
    "sagemaker-endpoint-state-change": "on_endpoint_changed",
    "scheduled-event": "sweep",
}


@pytest.mark.parametrize("path", [path for name in FUNCTIONS for path in samples("valid", name)], ids=name_of)
def test_every_sample_of_an_event_is_taken(world: World, client: Client, path: Path) -> None:
    """No valid sample under events/ makes its function fail."""
    client.lambda_.invoke(FUNCTIONS[path.parent.name], load(path))


@pytest.mark.parametrize("path", samples("valid", "api-gateway-request"), ids=name_of)
def test_every_sample_of_a_request_is_answered(world: World, path: Path) -> None:
    """No valid sample of API Gateway's request makes the app fail."""
    assert app(load(path), None)["statusCode"] < 500


OPEN = ("/health", "/", "/web/{name}", "/web/{folder}/{name}", "/openapi.json", "/{proxy+}")
OPEN_ROUTES = {("GET", path) for path in OPEN}
ROUTES = [(method, path) for path, methods in app.routes.items() for method in methods]


@pytest.mark.parametrize(("method", "path"), sorted(set(ROUTES) - OPEN_ROUTES))
@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic ann-token"}])
def test_every_route_that_is_not_open_needs_a_token(
    world: World, client: Client, method: str, path: str, header: dict[str, str]
) -> None:
    """A missing, a wrong and a misspelt token are 401, whatever the path."""
    response = ask(client, method, path.replace("{", "").replace("}", ""), header)
    assert response.status_code == 401
    assert read_error(response)["code"] == "Unauthorized"


def test_health_needs_no_token(world: World, client: Client) -> None:
    """Health is open and makes no call to AWS."""
    assert ask(client, "GET", "/health", {}).status_code == 200
    assert world.trouble.calls == []


def test_a_picture_is_answered_with_its_classes(world: World, client: Client) -> None:
    """The endpoint's answer comes back, cut to `top`, with the time it took."""
    deploy(world, client)
    response = predict(client, query="?top=3")
    answer = json.loads(response.body)
    assert response.status_code == 200
    assert [each["class"] for each in answer["results"][0]["predictions"]] == ["0", "1", "2"]
    assert answer["run_id"] == "r"
    assert answer["milliseconds"] >= 0
    assert world.runtime.asked[0]["Body"] == PICTURE


@pytest.mark.parametrize(
    ("query", "parameters"), [("?explain=true", "; explain=true"), ("?explain=false", ""), ("", "")]
)
def test_the_endpoint_is_told_to_explain(world: World, client: Client, query: str, parameters: str) -> None:
    """By a parameter of the content type, which is what of a request every container hands to its model."""
    deploy(world, client)
    assert predict(client, query=query).status_code == 200
    assert world.runtime.asked[0]["ContentType"] == f"application/octet-stream{parameters}"


@pytest.mark.parametrize("kind", ["image/jpeg", "image/webp", "IMAGE/PNG", "image/png; charset=binary"])
def test_content_types_with_parameters_are_taken(world: World, client: Client, kind: str) -> None:
    """Parameters and capitals of a content type make no difference."""
    deploy(world, client)
    assert predict(client, kind=kind).status_code == 200


@pytest.mark.parametrize(
    ("kind", "size", "query", "status", "code"),
    [
        ("text/plain", 10, "", 415, "UnsupportedMediaType"),
        ("application/json; charset=utf-8", 10, "", 400, "BadRequest"),
        ("multipart/form-data; boundary=x", 10, "", 400, "BadRequest"),
        ("multipart/form-data", 10, "", 400, "BadRequest"),
        ("image/png", 0, "", 422, "UnreadableImage"),
        ("image/png", 4_000_001, "", 413, "PayloadTooLarge"),
        ("image/png", 10, "?top=0", 400, "BadRequest"),
        ("image/png", 10, "?top=-1", 400, "BadRequest"),
        ("image/png", 10, "?top=many", 400, "BadRequest"),
        ("image/png", 10, "?top=%C2%B2", 400, "BadRequest"),
        ("image/png", 10, "?threshold=2", 400, "BadRequest"),
        ("image/png", 10, "?threshold=-0.1", 400, "BadRequest"),
        ("image/png", 10, "?threshold=high", 400, "BadRequest"),
        ("image/png", 10, "?explain=yes", 400, "BadRequest"),
    ],
)
def test_the_door_says_what_is_wrong(
    world: World, client: Client, kind: str, size: int, query: str, status: int, code: str
) -> None:
    """What can be refused without the endpoint is refused without it, in words that a user can act on."""
    response = predict(client, b"x" * size, kind, query)
    assert response.status_code == status
    error = read_error(response)
    assert error["code"] == code
    assert len(error["message"]) > CLEAN
    assert world.runtime.asked == []


def model_error(status: int, body: str) -> Exception:
    return fail("ModelError", "...", "InvokeEndpoint", OriginalStatusCode=status, OriginalMessage=body)


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (model_error(422, '{"error": {"code": "x", "message": "The JPEG ends too early."}}'), 422, "UnreadableImage"),
        (model_error(413, "too large"), 413, "PayloadTooLarge"),
        (model_error(415, "no such type"), 415, "UnsupportedMediaType"),
        (model_error(400, "bad"), 400, "BadRequest"),
        (model_error(500, "Traceback (most recent call last): secret"), 502, "ServiceError"),
        (fail("ModelNotReadyException", "wait", "InvokeEndpoint"), 503, "ModelNotReady"),
        (fail("ServiceUnavailable", "wait", "InvokeEndpoint"), 503, "ModelNotReady"),
        (fail("InternalFailure", "oh", "InvokeEndpoint"), 502, "ServiceError"),
        (b"<html>", 502, "ServiceError"),
    ],
)
def test_the_endpoints_errors_are_told_in_our_words(
    world: World, client: Client, answer: Any, status: int, code: str
) -> None:
    """A refusal of the model's container keeps its status; its failure is 502, and no traceback leaves."""
    deploy(world, client)
    world.runtime.answer = answer
    response = predict(client)
    assert response.status_code == status
    assert read_error(response)["code"] == code
    assert ("Retry-After" in response.headers) == (status == 503)


def test_an_unknown_model_is_404(world: World, client: Client) -> None:
    """Without an endpoint there is no model."""
    assert predict(client).status_code == 404
    for method in ("GET", "DELETE"):
        assert ask(client, method, "/models/dogs").status_code == 404


@pytest.mark.parametrize(
    ("state", "status"), [("Creating", 503), ("Updating", 503), ("Failed", 409), ("Deleting", 404)]
)
def test_an_endpoint_that_does_not_serve_says_why(world: World, client: Client, state: str, status: int) -> None:
    """Creating is 503 with Retry-After, failed is 409 with SageMaker's reason, deleting is 404."""
    deploy(world, client)
    [endpoint] = world.sagemaker.kept["Endpoint"].values()
    endpoint |= {"EndpointStatus": state, "FailureReason": "The container did not pass its health check."}
    world.runtime.answer = fail("ValidationError", "Endpoint is not in service", "InvokeEndpoint")
    response = predict(client)
    assert response.status_code == status
    assert ("Retry-After" in response.headers) == (status == 503)
    if status == 409:
        assert "health check" in read_error(response)["message"]


def test_a_model_is_listed_described_and_taken_down(world: World, client: Client) -> None:
    """DELETE removes the endpoint, its config and its models, and nothing of another dataset."""
    deploy(world, client, "cats")
    run_id = deploy(world, client)
    names = [model["name"] for model in json.loads(ask(client, "GET", "/models").body)["models"]]
    assert names == ["cats", "dogs"]
    model = json.loads(ask(client, "GET", "/models/dogs").body)
    assert model["status"] == "ready"
    assert model["metrics"]["test"]["accuracy"] == 0.95
    assert ask(client, "DELETE", "/models/dogs").status_code == 200
    for kind in ("Endpoint", "EndpointConfig", "Model"):
        assert len(world.sagemaker.kept[kind]) == 1
    assert ask(client, "GET", "/models/dogs").status_code == 404
    assert json.loads(ask(client, "GET", f"/runs/{run_id}").body)["status"] == "deployed"


def test_a_changing_endpoint_is_not_deleted(world: World, client: Client) -> None:
    """AWS refuses to delete it at that moment: the answer is 409, and says when to try again."""
    deploy(world, client)
    [endpoint] = world.sagemaker.kept["Endpoint"].values()
    endpoint["EndpointStatus"] = "Updating"
    response = ask(client, "DELETE", "/models/dogs")
    assert response.status_code == 409
    assert response.headers["Retry-After"]


def test_a_run_is_stopped_and_tried_again(world: World, client: Client) -> None:
    """Stop answers 202 and ends the tuning job; retry begins the next attempt; neither twice."""
    world.upload("dogs.zip", ZIP)
    send_upload(client, "datasets/dogs.zip")
    [run_id] = [key.split("/")[1] for key in world.list_keys("active/")]
    assert ask(client, "POST", f"/runs/{run_id}/retry").status_code == 409
    assert ask(client, "POST", f"/runs/{run_id}/stop").status_code == 202
    world.end_everything()
    send(client, "sweep", "aws.events", "Scheduled Event", {})
    run = json.loads(ask(client, "GET", f"/runs/{run_id}").body)
    assert (run["status"], run["reason"]) == ("stopped", "Stopped by a person while tuning.")
    again = json.loads(ask(client, "POST", f"/runs/{run_id}/retry").body)["run_id"]
    assert again != run_id
    assert json.loads(ask(client, "GET", f"/runs/{again}").body)["attempt"] == 2


def test_a_model_that_was_kept_back_is_approved(world: World, client: Client) -> None:
    """202 and `deploying`, twice over; the schedule's next look deploys. It is 401 without a token, 409 too late."""
    deploy(world, client)
    world.against_live = "even"
    world.upload("dogs.zip", build_small_zip(1))
    for _ in range(4):
        send(client, "sweep", "aws.events", "Scheduled Event", {})
        world.end_everything()
    [run, first] = json.loads(ask(client, "GET", "/runs").body)["runs"]
    assert (run["status"], first["status"]) == ("undecided", "deployed")
    path = f"/runs/{run['run_id']}/approve"
    assert client.http.post(path).status_code == 401
    for _ in range(2):
        response = ask(client, "POST", path)
        assert (response.status_code, json.loads(response.body)["status"]) == (202, "deploying")
    send(client, "sweep", "aws.events", "Scheduled Event", {})
    world.end_everything()
    send(client, "sweep", "aws.events", "Scheduled Event", {})
    assert json.loads(ask(client, "GET", "/models/dogs").body)["run_id"] == run["run_id"]
    assert ask(client, "POST", f"/runs/{first['run_id']}/approve").status_code == 409


RUN_ROUTES = (
    ("GET", ""),
    ("GET", "/curves"),
    ("GET", "/jobs"),
    ("POST", "/stop"),
    ("POST", "/retry"),
    ("POST", "/approve"),
)


def test_an_unknown_run_is_404(world: World, client: Client) -> None:
    """This holds for every route of a run, and for a name that S3 could not even hold."""
    named = ("x", "%01", "x" * 2000, "X", "..%2F..", "%00", "a b")
    paths = [(method, f"/runs/{name}{end}") for name in named for method, end in RUN_ROUTES]
    for method, path in paths:
        response = ask(client, method, path)
        assert response.status_code == 404
        assert read_error(response)["code"] == "RunNotFound"


def test_an_upload_is_signed(world: World, client: Client) -> None:
    """The answer says where to PUT the zip, and for how long."""
    response = ask(client, "POST", "/datasets/dogs")
    assert response.status_code == 201
    answer = json.loads(response.body)
    assert answer["method"] == "PUT"
    assert answer["key"] == "datasets/dogs.zip"
    assert "datasets/dogs.zip" in answer["url"]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=201", "limit=-1", "after=%01", "after=x", "after=../x"])
def test_a_page_of_runs_has_a_size(world: World, client: Client, query: str) -> None:
    """An impossible limit is refused."""
    assert ask(client, "GET", f"/runs?{query}").status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("PUT", "/health", 405), ("GET", "/models/dogs/predict", 405)],
)
def test_chalices_own_refusals_look_like_ours(world: World, method: str, path: str, status: int) -> None:
    """Unknown routes and wrong methods are answered in our JSON form."""
    resource = path.replace("dogs", "{name}")
    context = {"resourcePath": resource, "httpMethod": method, "identity": {}}
    event = {"requestContext": context, "headers": {}, "multiValueQueryStringParameters": None, "pathParameters": {}}
    event |= {"body": None, "stageVariables": None, "path": path, "isBase64Encoded": False}
    answer = app(event, None)
    assert answer["statusCode"] == status
    assert set(json.loads(answer["body"])["error"]) == {"code", "message"}


def test_what_fails_inside_shows_nothing(world: World, client: Client) -> None:
    """An unforeseen error is 500 in our form; an error of AWS keeps its kind."""
    world.s3.versions["runs/x/run.json"] = []
    world.s3.store("runs/x/run.json", b"[]")
    response = ask(client, "GET", "/runs/x")
    assert response.status_code == 500
    assert "list" not in read_error(response)["message"]
    world.trouble.plan = {len(world.trouble.calls): "throttle"}
    response = ask(client, "GET", "/runs")
    assert response.status_code == Throttled.status
    assert response.headers["Retry-After"]


def test_an_app_that_is_not_set_up_says_no_more_than_that(world: World, client: Client) -> None:
    """The log, not the answer, says what is missing; health still answers."""
    world.secrets.text = "{}"
    response = ask(client, "GET", "/models")
    assert response.status_code == 500
    assert "secret" not in read_error(response)["message"]
    assert ask(client, "GET", "/health").status_code == 200


def test_importing_the_app_is_cheap() -> None:
    """No boto3, X-Ray, jsonschema, torch, sagemaker or pandas is loaded before it is used."""
    heavy = [
        "boto3",
        "botocore.session",
        "aws_xray_sdk",
        "jsonschema",
        "torch",
        "sagemaker",
        "pandas",
        "numpy",
    ]
    script = f"import sys, app; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
