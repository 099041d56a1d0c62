"""Removing a dataset: nothing of it is left, no other is touched, and an interrupted removal can be finished."""

from __future__ import annotations

import pytest

from chalicelib.errors import AccessDenied, DatasetNotFound, InvalidName, WhippetError
from chalicelib.pipeline.intake import look_at_dataset
from chalicelib.pipeline.removal import delete_dataset
from chalicelib.pipeline.sweep import sweep
from chalicelib.runs.identity import make_endpoint_name
from tests.fakes.removals import list_left, list_of, remove
from tests.fakes.world import SETTINGS, World
from tests.support.pictures import build_colour_zip, build_small_zip

ZIP = build_small_zip()
OTHER = build_colour_zip(counts={"train": 3, "test": 3})
AGAIN = build_small_zip(1)


def run_to_its_end(world: World, name: str, body: bytes = ZIP) -> str:
    """Upload a dataset and let its run be deployed. Returns the run's id."""
    world.upload(f"{name}.zip", body)
    run_id = look_at_dataset(name, world.services())
    assert run_id
    for _ in range(6):
        world.end_everything()
        sweep(world.services())
    assert world.read(f"runs/{run_id}/result.json")["status"] == "deployed"
    return run_id


def test_a_dataset_is_removed_with_all_that_was_made_from_it(world: World) -> None:
    """Versions, recipe, runs, list entries, markers, leases and model go; another dataset's stay."""
    run_to_its_end(world, "cats", OTHER)
    untouched = list_of(world, "cats")
    world.upload("dogs.json", b'{"epochs": 3}')
    run_to_its_end(world, "dogs")
    run_to_its_end(world, "dogs", OTHER)
    answer = delete_dataset("dogs", world.services())
    assert answer["status"] == "deleted"
    assert len(answer["runs"]) == 2
    assert make_endpoint_name(SETTINGS, "dogs") in answer["models"]
    assert list_of(world, "dogs") == []
    assert list_of(world, "cats") == untouched
    assert [run["dataset"] for run in world.services().runs.list_all(9)[0]] == ["cats"]


def test_the_ledger_keeps_what_the_runs_have_cost(world: World) -> None:
    """The month's money is spent whatever is deleted."""
    run_id = run_to_its_end(world, "dogs")
    [month] = world.list_keys("ledger/")
    remove(world, "dogs")
    assert run_id in world.read(month)["runs"]


def test_a_dataset_whose_name_begins_like_another_is_left_alone(world: World) -> None:
    """Two names may have the same slug."""
    run_to_its_end(world, "dog s")
    run_to_its_end(world, "dog-s", OTHER)
    delete_dataset("dog s", world.services())
    assert [run["dataset"] for run in world.services().runs.list_all(9)[0]] == ["dog-s"]
    assert "datasets/dog-s.zip" in world.s3.versions
    assert len(world.sagemaker.kept["Model"]) == 1


@pytest.mark.parametrize("stage", ["tuning", "training"])
def test_a_run_on_its_way_is_stopped_first(world: World, stage: str) -> None:
    """A 202 says what is left; the files go once no look can start a job any more."""
    world.upload("dogs.zip", ZIP)
    run_id = look_at_dataset("dogs", world.services())
    if stage == "training":
        world.end_everything()
        sweep(world.services())
    answer = delete_dataset("dogs", world.services())
    assert answer["status"] == "deleting"
    assert f"The run {run_id} is {stage}" in answer["left"][0]
    assert "datasets/dogs.zip" not in world.s3.versions
    assert f"runs/{run_id}/run.json" in world.s3.versions
    remove(world, "dogs")
    assert list_of(world, "dogs") == []
    jobs = [*world.sagemaker.kept["HyperParameterTuningJob"].values(), *world.sagemaker.kept["TrainingJob"].values()]
    assert all(job.get("TrainingJobStatus", job.get("HyperParameterTuningJobStatus")) == "Stopped" for job in jobs[-1:])


def test_a_run_that_is_being_deployed_is_waited_for(world: World) -> None:
    """An endpoint that is being created cannot be deleted; nothing is refused silently."""
    world.upload("dogs.zip", ZIP)
    look_at_dataset("dogs", world.services())
    for _ in range(2):
        world.end_everything()
        sweep(world.services())
    assert world.sagemaker.count("CreateEndpoint") == 1
    left = remove(world, "dogs")
    assert "is being deployed" in left[0]
    assert list_of(world, "dogs") == []


def test_what_has_nothing_is_not_found(world: World) -> None:
    """A dataset that was removed before is not found either; an impossible name is refused as such."""
    with pytest.raises(DatasetNotFound, match="no upload, no recipe, no run"):
        delete_dataset("dogs", world.services())
    run_to_its_end(world, "dogs")
    remove(world, "dogs")
    with pytest.raises(DatasetNotFound):
        delete_dataset("dogs", world.services())
    with pytest.raises(InvalidName):
        delete_dataset("a/b", world.services())
    assert world.list_keys("models/") == []


def test_the_same_dataset_may_come_again(world: World) -> None:
    """It is then another version, and another run."""
    first = run_to_its_end(world, "dogs")
    remove(world, "dogs")
    assert run_to_its_end(world, "dogs") != first


def test_many_files_are_deleted_a_page_at_a_time(world: World) -> None:
    """Listings and deletions come in pages, and no file is forgotten."""
    run_id = run_to_its_end(world, "dogs")
    for number in range(25):
        world.s3.store(f"runs/{run_id}/jobs/x/checkpoint-{number}", b"1")
        world.s3.store(f"runs/{run_id}/jobs/x/checkpoint-{number}", b"2")
    world.page = 7
    remove(world, "dogs")
    assert list_of(world, run_id) == []


def test_what_takes_too_long_is_left_to_the_next_call(world: World) -> None:
    """Otherwise the gateway would cut the answer off."""
    run_id = run_to_its_end(world, "dogs")
    slow = world.trouble.around

    def around(operation: str, work: object) -> object:
        world.clock.sleep(20 if operation == "delete_objects" else 0)
        return slow(operation, work)  # type: ignore[arg-type]

    world.trouble.around = around  # type: ignore[method-assign,assignment]
    answer = delete_dataset("dogs", world.services())
    assert answer["status"] == "deleting"
    assert "there was no time" in answer["left"][0]
    assert f"runs/{run_id}/run.json" in world.s3.versions
    remove(world, "dogs")
    assert list_of(world, "dogs") == []


def test_an_object_that_s3_keeps_is_told(world: World) -> None:
    """DeleteObjects accepts the call and refuses single objects."""
    run_id = run_to_its_end(world, "dogs")
    world.s3.kept_back.add(f"runs/{run_id}/result.json")
    with pytest.raises(AccessDenied, match=r"result\.json"):
        delete_dataset("dogs", world.services())
    world.s3.kept_back.clear()
    remove(world, "dogs")
    assert list_of(world, "dogs") == []


def test_a_deletion_that_finds_nothing_leaves_nothing() -> None:
    """Not even the word that there was one."""
    world = World()
    with pytest.raises(WhippetError):
        delete_dataset("dogs", world.services())
    assert list_left(world) == []


@pytest.mark.parametrize("name", ["x" * 201, "犬" * 80, "a\x01b", "a\nb", "a\x7fb", "a\x85b", ".", "..", "x" * 1000])
def test_a_name_that_cannot_be_served_is_rejected_and_can_be_deleted(name: str) -> None:
    """An upload that no route let in: nothing is launched, the run says why, and DELETE removes all of it."""
    world = World()
    world.upload(f"{name}.zip", ZIP)
    run_id = look_at_dataset(name, world.services())
    world.upload(f"{name}.json", b"{}")
    sweep(world.services())
    assert world.sagemaker.requests == []
    result = world.read(f"runs/{run_id}/result.json")
    assert result["status"] == "rejected"
    assert "Upload it under another name" in result["reason"]
    assert world.list_keys("active/") == []
    world.clock.sleep(400)
    assert delete_dataset(name, world.services())["status"] == "deleted"
    world.clock.sleep(400)
    sweep(world.services())
    assert list_left(world) == []
