"""Removing a dataset: nothing of it is left, no other is touched, and an interrupted removal can be finished."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import AccessDenied, DatasetNotFound, InvalidName, WhippetError
from chalicelib.pipeline.advance import advance
from chalicelib.pipeline.intake import look_at_dataset, retry_run, stop_run
from chalicelib.pipeline.removal import delete_dataset
from chalicelib.pipeline.sweep import sweep
from chalicelib.runs.identity import make_endpoint_name
from tests.fakes.clients import Killed
from tests.fakes.world import SETTINGS, World
from tests.support.pictures import build_colour_zip

ZIP = build_colour_zip(counts={"train": 3, "valid": 3})
OTHER = build_colour_zip(counts={"train": 3, "test": 3})
AGAIN = build_colour_zip(seed=1)


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


Act = Callable[[World], object]


def try_to(work: Callable[[], object]) -> None:
    with contextlib.suppress(WhippetError, Killed):
        work()


def find_run(world: World) -> str:
    return world.list_keys("active/")[0].removeprefix("active/")


def prepare(stage: str) -> World:
    """Build an account whose dataset is at a stage."""
    world = World()
    world.upload("dogs.zip", ZIP)
    for _ in range({"uploaded": 0, "tuned": 1, "trained": 2, "served": 3}[stage]):
        sweep(world.services())
        world.end_everything()
    return world


def fail_first(world: World) -> None:
    """Let the first attempt fail, so that a retry may begin."""
    world.trial_scores = [None]
    sweep(world.services())
    world.end_everything()
    sweep(world.services())


def retry(world: World) -> object:
    [key] = [key for key in world.list_keys("runs/") if key.endswith("run.json")]
    return retry_run(key.split("/")[1], world.services())


LOOKS: dict[str, tuple[str, Act, Act]] = {
    "an upload": ("uploaded", lambda world: None, lambda world: look_at_dataset("dogs", world.services())),
    "a sweep": ("uploaded", lambda world: None, lambda world: sweep(world.services())),
    "the end of a tuning": ("tuned", lambda world: None, lambda world: advance(find_run(world), world.services())),
    "the end of a training": ("trained", lambda world: None, lambda world: advance(find_run(world), world.services())),
    "the end of a deployment": ("served", lambda world: None, lambda world: advance(find_run(world), world.services())),
    "a stop": ("tuned", lambda world: None, lambda world: stop_run(find_run(world), "ann", world.services())),
    "a retry": ("uploaded", fail_first, retry),
}


def begin(case: str) -> tuple[World, Act]:
    stage, before, look = LOOKS[case]
    world = prepare(stage)
    before(world)
    return world, look


def delete_once(world: World) -> Callable[[], None]:
    """Build what deletes the dataset at its first call, and does nothing from then on."""
    asked: list[str] = []

    def work() -> None:
        if not asked:
            asked.append("once")
            plan, world.trouble.plan = world.trouble.plan, {}
            try_to(lambda: delete_dataset("dogs", world.services()))
            world.trouble.plan = plan

    return work


def let_time_pass(world: World) -> None:
    """Let the schedule sweep, what runs end, and the person ask again until the dataset is not found."""
    world.trouble.plan = {}
    for _ in range(8):
        sweep(world.services())
        world.end_everything()
        world.end_deletions()
        world.clock.sleep(200)
        try_to(lambda: delete_dataset("dogs", world.services()))


def list_left(world: World) -> list[str]:
    """List every version of everything but the ledger, and everything that bills."""
    s3, kept = world.s3, world.sagemaker.kept
    keys = [key for key in {*s3.versions, *s3.hidden} if not key.startswith("ledger/")]
    running = [
        name
        for kind in ("HyperParameterTuningJob", "TrainingJob")
        for name, job in kept[kind].items()
        if job[f"{kind}Status"] in ("InProgress", "Stopping")
    ]
    return sorted([*keys, *running, *kept["Endpoint"], *kept["EndpointConfig"], *kept["Model"]])


@pytest.mark.parametrize("kind", ["meanwhile", "meanwhile after"])
@pytest.mark.parametrize("case", list(LOOKS))
def test_a_look_in_flight_leaves_no_ghost(case: str, kind: str) -> None:
    """Before whichever of its calls the deletion comes, and whether or not it is killed then: all is gone."""
    clean, look = begin(case)
    first = len(clean.trouble.calls)
    try_to(lambda: look(clean))
    for number in range(first, len(clean.trouble.calls)):
        world, look = begin(case)
        world.trouble.other = delete_once(world)
        world.trouble.plan = {number: kind}
        try_to(lambda world=world, look=look: look(world))  # type: ignore[misc]
        let_time_pass(world)
        assert list_left(world) == [], f"the deletion came before call {number}: {clean.trouble.calls[number]}"


@pytest.mark.parametrize("case", ["an upload", "the end of a tuning", "the end of a deployment", "a retry"])
def test_an_upload_after_the_deletion_is_another_run_and_stays(case: str) -> None:
    """However soon it comes, and whatever the look that was in flight still writes."""
    clean, look = begin(case)
    first = len(clean.trouble.calls)
    try_to(lambda: look(clean))
    for number in range(first, len(clean.trouble.calls), 3):
        world, look = begin(case)
        delete = delete_once(world)
        old = {key.split("/")[1] for key in world.list_keys("runs/")}

        def replace(world: World = world, delete: Callable[[], None] = delete) -> None:
            delete()
            world.upload("dogs.zip", AGAIN)

        world.trouble.other = replace
        world.trouble.plan = {number: "meanwhile"}
        try_to(lambda world=world, look=look: look(world))  # type: ignore[misc]
        world.trouble.plan = {}
        world.trial_scores = [0.8, 0.93]
        for _ in range(9):
            sweep(world.services())
            world.end_everything()
            world.end_deletions()
            world.clock.sleep(200)
        results = [world.read(key) for key in world.list_keys("runs/") if key.endswith("/result.json")]
        of_new = [each for each in results if each["run_id"] not in old and each["status"] == "deployed"]
        assert len(of_new) == 1, (number, clean.trouble.calls[number], results)
        assert world.sagemaker.kept["Endpoint"]


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


def test_what_a_look_writes_about_a_run_that_the_sweep_removes_goes_too() -> None:
    """Until the sweep removed the run, a look at it could begin: the sweep comes back when no such look can live."""
    world = prepare("tuned")
    run_id = find_run(world)
    assert delete_dataset("dogs", world.services())["left"]
    while world.list_keys(f"runs/{run_id}/run.json"):
        world.end_everything()
        world.clock.sleep(400)
        sweep(world.services())
    world.services().runs.write_file(run_id, "settlement.json", {"format": 1})  # a look that was in flight
    world.clock.sleep(400)
    sweep(world.services())
    assert list_of(world, "dogs") == []
    assert world.list_keys("removals/") == []


@pytest.mark.parametrize("case", ["the end of a training", "the end of a deployment"])
def test_a_run_that_is_removed_between_two_calls_of_a_look_is_none(case: str) -> None:
    """A file that was listed and is gone when it is read means that the run was removed: nothing else fails."""
    clean, look = begin(case)
    calls = len(clean.trouble.calls)
    look(clean)
    for number in range(len(clean.trouble.calls) - calls):
        world, look = begin(case)
        folder = f"runs/{find_run(world)}/"
        world.trouble.plan = {len(world.trouble.calls) + number: "meanwhile"}
        world.trouble.other = partial(remove_all, world, folder)
        with contextlib.suppress(WhippetError):
            look(world)


def remove_all(world: World, folder: str) -> None:
    for key in world.list_keys(folder):
        del world.s3.versions[key]


def test_a_run_that_is_begun_again_after_its_removal_leaves_no_entry_of_either_time() -> None:
    """A doubled event's look was slow: it writes run.json once more, and another look still lists the first one."""
    world = World()
    world.upload("dogs.zip", ZIP)
    run_id = str(look_at_dataset("dogs", world.services()))
    first = world.s3.versions[f"runs/{run_id}/run.json"][-1].body
    listed = world.list_keys("index/")
    stop_run(run_id, "ann", world.services())
    for _ in range(3):
        world.end_everything()
        world.clock.sleep(400)
        sweep(world.services())
    assert delete_dataset("dogs", world.services())["status"] == "deleted"
    again = first.replace(b"2026-11-22T00:00:00", b"2026-11-22T00:00:07")
    assert again != first
    world.s3.store(f"runs/{run_id}/run.json", again)
    world.s3.store(f"active/{run_id}", b'{"dataset": "dogs"}')
    sweep(world.services())
    for key in listed:
        world.s3.store(key, b"")
    let_time_pass(world)
    assert list_left(world) == []
