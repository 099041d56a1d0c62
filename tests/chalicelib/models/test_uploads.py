"""Uploads beside the routes: where the bytes may go, how many, and what is put together."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chalicelib import errors
from chalicelib.models.predictions import Question, predict
from chalicelib.models.uploads import MOST_BYTES, PART_BYTES, begin_upload, complete_upload, describe_upload
from chalicelib.pipeline.intake import check_name
from chalicelib.runs.identity import make_endpoint_name
from tests.fakes.world import SETTINGS, World


def begin(world: World, **request: Any) -> dict[str, Any]:
    return begin_upload(json.dumps(request).encode(), check_name, world.services())


def test_an_image_gets_a_key_of_its_own(world: World) -> None:
    """Its URL is for that key, that size, and some minutes."""
    told = begin(world, kind="image", size=8_000_000)
    assert told["key"] == f"uploads/{told['id']}"
    assert told["method"] == "PUT"
    assert told["key"] in told["url"]
    assert "parts" not in told


@pytest.mark.parametrize("name", ["dogs", "dogs.zip", "dogs.ZIP"])
def test_a_dataset_goes_where_a_dropped_zip_would(world: World, name: str) -> None:
    """With or without its suffix."""
    assert begin(world, kind="dataset", name=name, size=5)["key"] == "datasets/dogs.zip"


def test_a_large_dataset_is_sent_in_parts(world: World) -> None:
    """The parts' sizes add up, only the last one is smaller, and S3's least size of 5 MB holds for all but that."""
    told = begin(world, kind="dataset", name="dogs", size=300_000_000)
    sizes = [part["size"] for part in told["parts"]]
    assert sum(sizes) == 300_000_000
    assert set(sizes[:-1]) == {PART_BYTES}
    assert [part["number"] for part in told["parts"]] == list(range(1, len(sizes) + 1))
    assert "url" not in told


@pytest.mark.parametrize(
    "request_",
    [
        {}, {"kind": "video", "size": 3}, {"kind": "image"}, {"kind": "image", "size": 0},
        {"kind": "image", "size": True}, {"kind": "image", "size": "3"},
        {"kind": "dataset", "size": 3}, {"kind": "dataset", "name": "a/b", "size": 3},
    ],
)  # fmt: skip
def test_a_request_that_says_too_little_is_refused(world: World, request_: dict[str, Any]) -> None:
    """Nothing is signed for it."""
    with pytest.raises(errors.BadRequest):
        begin(world, **request_)


@pytest.mark.parametrize("kind", MOST_BYTES)
def test_what_is_larger_than_we_take_is_refused_before_it_is_sent(world: World, kind: str) -> None:
    """The message has both numbers."""
    with pytest.raises(errors.PayloadTooLarge, match=f"{MOST_BYTES[kind]:,}"):
        begin(world, kind=kind, name="dogs", size=MOST_BYTES[kind] + 1)


def test_an_interrupted_upload_goes_on_with_the_parts_that_are_missing(world: World) -> None:
    """What has arrived whole has its ETag, and the rest new addresses. A complete one is over."""
    begun = begin(world, kind="dataset", name="dogs", size=2 * PART_BYTES + 5)
    world.s3.parts["parts-of-datasets/dogs.zip"] = {1: PART_BYTES, 2: PART_BYTES - 1}
    told = describe_upload(begun["id"], world.services())
    assert told["parts"][0] == {"number": 1, "size": PART_BYTES, "etag": '"1"'}
    assert [part["number"] for part in told["parts"] if "url" in part] == [2, 3]
    assert told | {"parts": begun["parts"]} == begun
    etags = {"parts": [{"number": number, "etag": f'"{number}"'} for number in (1, 2, 3)]}
    record = world.s3.versions[f"uploads/{begun['id']}.json"][-1].body
    complete_upload(begun["id"], json.dumps(etags).encode(), world.services())
    with pytest.raises(errors.NotFound, match="POST /uploads"):
        describe_upload(begun["id"], world.services())
    world.s3.store(f"uploads/{begun['id']}.json", record)
    with pytest.raises(errors.NotFound, match="over"):
        describe_upload(begun["id"], world.services())


@pytest.mark.parametrize("id", ["0" * 32, "../active/x", ""])
def test_only_an_upload_in_parts_is_completed(world: World, id: str) -> None:
    """An id that was never given is not looked for elsewhere in the bucket."""
    with pytest.raises(errors.NotFound, match="POST /uploads"):
        complete_upload(id, b"{}", world.services())


def test_an_uploaded_image_is_named_to_the_endpoint_by_a_signed_url(world: World) -> None:
    """The endpoint fetches it itself: no byte passes through the function, which asks the bucket nothing."""
    endpoint = make_endpoint_name(SETTINGS, "dogs")
    world.sagemaker.kept["Endpoint"][endpoint] = {"EndpointName": endpoint, "EndpointStatus": "InService"}
    id = begin(world, kind="image", size=9)["id"]
    question = Question(json.dumps({"upload": id}).encode(), "application/json")
    calls = len(world.trouble.calls)
    assert predict("dogs", question, world.services())["results"]
    assert world.trouble.calls[calls:] == ["invoke_endpoint"]
    (asked,) = world.runtime.asked
    assert asked["ContentType"] == "application/json"
    assert f"uploads/{id}" in json.loads(asked["Body"])["url"]
