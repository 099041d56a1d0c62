"""Removing a dataset while looks at it are in flight: whichever calls meet, nothing of it is left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import WhippetError
from chalicelib.pipeline.advance import advance
from chalicelib.pipeline.intake import look_at_dataset, retry_run, stop_run
from chalicelib.pipeline.removal import delete_dataset
from chalicelib.pipeline.sweep import sweep
from tests.fakes.clients import Killed
from tests.fakes.removals import delete_again, list_left, list_of
from tests.fakes.world import World
from tests.support.pictures import build_colour_zip

ZIP = build_colour_zip(counts={"train": 3, "valid": 3})
AGAIN = build_colour_zip(seed=1)


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
