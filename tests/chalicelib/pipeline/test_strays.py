"""Uploads below datasets/ that begin no run: one notice each, which says what to do."""

from __future__ import annotations

import json

import pytest

from chalicelib.errors import WhippetError
from chalicelib.pipeline.intake import look_at_dataset
from chalicelib.pipeline.removal import delete_dataset
from chalicelib.pipeline.strays import describe_stray, tell_stray
from tests.fakes.world import World
from tests.support.pictures import build_small_zip

ZIP = build_small_zip()


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("datasets/dogs.tar.gz", "upload datasets/dogs.zip"),
        ("datasets/dogs.7z", "pack it as a zip"),
        ("datasets/dogs/train/cat/1.jpg", "zip -r dogs.zip dogs"),
        ("datasets/old/dogs.zip", "datasets/old/ is a folder"),
        ("datasets/1.JPG", "is a single image"),
        ("datasets/notes.txt", "neither a dataset"),
        ("datasets/dogs.JSON", "nor a recipe"),
        ("datasets/dogs", "neither a dataset"),
    ],
)
def test_a_stray_upload_is_told_what_to_do(key: str, says: str) -> None:
    """The message has the key's own names."""
    stray = describe_stray(key)
    assert stray is not None
    assert says in stray.message


@pytest.mark.parametrize(
    "key",
    ["datasets/dogs.zip", "datasets/dogs.ZIP", "datasets/dogs.json", "datasets/", "datasets/a/", "datasets/.DS_Store"],
)
def test_what_is_no_stray_is_told_nothing(key: str) -> None:
    """Datasets, recipes, markers of folders, and litter."""
    assert describe_stray(key) is None


def list_notices(world: World) -> list[str]:
    return [json.loads(message["Message"])["key"] for message in world.sns.sent]


def test_a_folder_of_images_gets_one_notice(world: World) -> None:
    """However many files are uploaded, and however often an event comes; another folder gets its own."""
    for index in range(5):
        tell_stray(f"datasets/dogs/train/{index}.jpg", world.services())
        tell_stray(f"datasets/{index}.jpg", world.services())
    tell_stray("datasets/cats/1.jpg", world.services())
    assert list_notices(world) == ["datasets/dogs/train/0.jpg", "datasets/0.jpg", "datasets/cats/1.jpg"]


def test_a_notice_that_could_not_be_sent_is_sent_later(world: World) -> None:
    """After a failed publication the event's next delivery sends the notice."""
    world.trouble.plan = {1: "error"}
    with pytest.raises(WhippetError):
        tell_stray("datasets/1.jpg", world.services())
    assert tell_stray("datasets/2.jpg", world.services())
    assert list_notices(world) == ["datasets/2.jpg"]


@pytest.mark.parametrize("name", ["dogs.ZIP", "dogs.Zip"])
def test_a_zip_in_capitals_is_a_dataset(world: World, name: str) -> None:
    """It begins the run that `dogs.zip` would, with its own bytes, and goes when the dataset is removed."""
    world.upload(name, ZIP)
    run_id = look_at_dataset("dogs", world.services())
    assert run_id
    assert world.read(f"runs/{run_id}/run.json")["key"] == f"datasets/{name}"
    assert world.read(f"runs/{run_id}/dataset.json")["ok"]
    delete_dataset("dogs", world.services())
    assert world.list_keys("datasets/") == []
