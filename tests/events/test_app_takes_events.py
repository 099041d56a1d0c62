"""Every sample of AWS's events goes through the app's own handlers, over fakes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import app
from chalicelib.pipeline.sweep import sweep
from tests.events.contract import complaints, load, name_of, samples
from tests.fakes.world import SETTINGS, World
from tests.support.pictures import build_colour_zip

HANDLERS = {
    "s3-object-created": app.on_dataset_uploaded,
    "sagemaker-tuning-job-state-change": app.on_tuning_job_changed,
    "sagemaker-training-job-state-change": app.on_training_job_changed,
    "sagemaker-endpoint-state-change": app.on_endpoint_changed,
    "scheduled-event": app.sweep,
}
EVENTS = [path for schema in HANDLERS for path in samples("valid", schema)]
UPLOADS = {
    path: key
    for path in samples("valid", "s3-object-created")
    if (key := load(path)["detail"]["object"]["key"]).startswith("datasets/") and key.endswith(".zip")
}
ZIP = build_colour_zip(counts={"train": 3, "valid": 3})


def make_world() -> World:
    """Return the account of the samples, with their bucket's name and their stage."""
    world = World(replace(SETTINGS, bucket="whippet-dev"))
    app.services.use(world.services())
    return world


def list_runs(world: World) -> list[dict[str, Any]]:
    return [world.read(key) for key in world.list_keys("runs/") if key.endswith("/run.json")]


@pytest.mark.parametrize("path", EVENTS, ids=name_of)
def test_event_of_unknown_things_changes_nothing(path: Path) -> None:
    """An event about something unknown (somebody else's, another stage's, long gone) is ignored without an error."""
    world = make_world()
    HANDLERS[path.parent.name](load(path), None)
    assert list_runs(world) == []
    assert world.sagemaker.requests == []


@pytest.mark.parametrize("path", UPLOADS, ids=name_of)
def test_upload_begins_one_run_of_its_raw_key(path: Path) -> None:
    """The key is taken as it is, with plus signs, spaces and percent signs; the same event twice is one run."""
    world, key = make_world(), UPLOADS[path]
    world.s3.store(key, ZIP)
    for _ in range(2):
        HANDLERS[path.parent.name](load(path), None)
    is_dataset = "/" not in key.removeprefix("datasets/")
    assert [run["key"] for run in list_runs(world)] == [key] * is_dataset


@pytest.mark.parametrize("path", samples("valid", "api-gateway-request"), ids=name_of)
def test_request_is_answered(path: Path) -> None:
    """Each sample request gets JSON and no status of a failure on our side."""
    make_world()
    answer = app.app(load(path), None)
    assert answer["statusCode"] < 500
    assert isinstance(json.loads(answer["body"]), dict)


def tell_a_story(world: World) -> None:
    """Take a dataset from its upload to a model that serves."""
    world.upload("dogs.zip", ZIP)
    for _ in range(8):
        sweep(world.services())
        world.end_everything()


def tell_of_a_rejection(world: World) -> None:
    world.upload("犬 & cats+dogs, a name of more than a hundred letters " + "x" * 80 + ".zip", b"no zip")
    sweep(world.services())


def tell_of_a_failure(world: World) -> None:
    world.trial_scores = [None, None]
    tell_a_story(world)


@pytest.mark.parametrize(
    ("story", "last"),
    [(tell_a_story, "Model Deployed"), (tell_of_a_rejection, "Dataset Rejected"), (tell_of_a_failure, "Run Failed")],
)
def test_what_is_sent_keeps_the_contract(story: Any, last: str) -> None:
    """Events and messages of whole runs match their schemas, and the message is the event's detail."""
    world = make_world()
    story(world)
    assert world.events.sent[-1][0] == last
    for detail_type, detail in world.events.sent:
        assert complaints("whippet-detail", detail) == []
        assert detail["event"] == detail_type
    assert [complaints("whippet-notification", message) for message in world.sns.sent] == [[]] * len(world.sns.sent)
    assert [json.loads(message["Message"]) for message in world.sns.sent] == [detail for _, detail in world.events.sent]
