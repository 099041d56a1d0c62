"""Removing a dataset: nothing of it is left, no other is touched, and an interrupted removal can be finished."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import AccessDenied, DatasetNotFound, InvalidName, WhippetError
from chalicelib.pipeline.intake import look_at_dataset, retry_run, stop_run, sweep
from chalicelib.pipeline.removal import delete_dataset
from chalicelib.runs.identity import make_endpoint_name
from tests.fakes.clients import Killed
from tests.fakes.world import SETTINGS, World
from tests.support.pictures import build_colour_zip

ZIP = build_colour_zip(counts={"train": 3, "valid": 3})
OTHER = build_colour_zip(counts={"train": 3, "test": 3})


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


def end_deletions(world: World) -> None:
    """Finish SageMaker's deletions."""
    for name, endpoint in list(world.sagemaker.kept["Endpoint"].items()):
        if endpoint["EndpointStatus"] == "Deleting":
            del world.sagemaker.kept["Endpoint"][name]


def remove(world: World, name: str) -> list[str]:
    """Ask until nothing is left, while time passes. Returns what the first answer left."""
    first = delete_dataset(name, world.services())["left"]
    for _ in range(8):
        if not delete_again(world, name):
            return list(first)
    raise AssertionError(f"{name} is not gone: {list_of(world, name)}")


def delete_again(world: World, name: str) -> bool:
    """Let time pass and ask for the deletion again. Returns whether anything may be left."""
    world.end_everything()
    end_deletions(world)
    world.clock.sleep(400)
    sweep(world.services())
    try:
        return bool(delete_dataset(name, world.services())["left"])
    except DatasetNotFound:
        return False


def list_of(world: World, name: str) -> list[str]:
    """List every version in the bucket that names a dataset, and everything that serves it in SageMaker."""
    s3 = world.s3
    keys = [key for key in {*s3.versions, *s3.hidden} if name in key and not key.startswith("ledger/")]
    served = [
        each for kind in ("Endpoint", "EndpointConfig", "Model") for each in world.sagemaker.kept[kind] if name in each
    ]
    return sorted([*keys, *served])


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


KINDS = st.sampled_from(["throttle", "before", "after", "meanwhile", "meanwhile after"])


@settings(max_examples=60, deadline=None)
@given(trouble=st.dictionaries(st.integers(0, 120), KINDS, max_size=6), before=st.integers(0, 8), retried=st.booleans())
def test_nothing_is_left_whatever_happens(trouble: dict[int, str], before: int, retried: bool) -> None:
    """At any stage of a run, with throttled calls, killed functions and looks in between, it is gone in the end."""
    world = World()
    world.upload("dogs.zip", ZIP)

    def look() -> None:
        with contextlib.suppress(WhippetError, Killed):
            sweep(world.services())

    look()
    for number in range(before):
        world.end_everything() if number % 2 else look()
    for run_id in world.services().runs.list_active() if retried else ():
        with contextlib.suppress(WhippetError):
            stop_run(run_id, "ann", world.services())
            retry_run(run_id, world.services())
    world.trouble.other = look
    world.trouble.plan = {number + len(world.trouble.calls): what for number, what in trouble.items()}
    with contextlib.suppress(WhippetError, Killed):
        delete_dataset("dogs", world.services())
    world.trouble.plan = {}
    for _ in range(12):
        if not delete_again(world, "dogs"):
            break
    assert list_of(world, "dogs") == []
