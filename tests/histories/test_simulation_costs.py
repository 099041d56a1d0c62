"""The monthly cap under doubled, late and killed functions: never exceeded, and no run waits for ever."""

from __future__ import annotations

import contextlib
import json
from copy import deepcopy
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import WhippetError
from chalicelib.pipeline.intake import look_at_dataset, stop_run
from chalicelib.pipeline.sweep import sweep
from tests.fakes.clients import Killed
from tests.fakes.world import SETTINGS, World
from tests.histories.settling import come_to_rest
from tests.support.pictures import build_colour_zip

ZIP = build_colour_zip(counts={"train": 3, "valid": 3})
CAP = 4.0  # dollars: a run may cost 3.0 at most, a cheap one 0.6
DATASETS = ("dogs", "cats", "mice")
CHEAP = {"trials": 1, "max_runtime_seconds": {"trial": 300, "training": 300}}
KINDS = st.sampled_from(["throttle", "before", "after", "meanwhile", "meanwhile", "meanwhile after"])
TROUBLES = st.dictionaries(st.integers(0, 400), KINDS, max_size=6)
EVENTS = st.lists(st.tuples(st.sampled_from([*DATASETS, "sweep", "month"]), st.booleans()), min_size=3, max_size=14)


def make_world(trouble: dict[int, str]) -> World:
    """Build an account with three uploads, whose cap has room for one expensive run at a time."""
    types = ("ml.m5.xlarge",)
    chosen = replace(SETTINGS, use_spot=False, trial_instance_types=types, training_instance_types=types)
    world = World(replace(chosen, monthly_cap_usd=CAP))
    for name in DATASETS:
        world.upload(f"{name}.zip", ZIP)
    world.upload("mice.json", json.dumps(CHEAP).encode())
    world.trouble.plan = trouble
    world.trouble.other = lambda: deliver_and_end(world)
    return world


def deliver(world: World, event: str) -> None:
    """Deliver one event to a fresh function, which may fail or be killed."""
    with contextlib.suppress(WhippetError, Killed):
        if event == "month":
            turn_month(world)
            sweep(world.services())
        elif event == "sweep":
            sweep(world.services())
        else:
            look_at_dataset(event, world.services())


def turn_month(world: World) -> None:
    """Let three weeks pass. Before that the sweep finds every upload: a check that takes longer is a failure.

    Endpoints are done within hours; a job may go on.
    """
    plan, world.trouble.plan = world.trouble.plan, {}
    for _ in range(2):
        sweep(world.services())
        world.clock.sleep(400)
    world.trouble.plan = plan
    world.end_deployments()
    world.clock.sleep(20 * 86_400)


def deliver_and_end(world: World) -> None:
    deliver(world, "sweep")
    world.end_everything()
    deliver(world, "sweep")


def settle(world: World) -> None:
    """Without further trouble, let everything end and the schedule sweep until nothing is left to do."""
    world.trouble.plan = {}
    come_to_rest(world, 20)


@cache
def read_ledger(body: bytes) -> Any:
    return json.loads(body)


def check_ledgers(world: World) -> None:
    """Check that every version of every ledger is within the cap, and that no run is in it twice."""
    for key in world.list_keys("ledger/"):
        for body in {version.body for version in world.s3.versions[key]}:
            ledger = read_ledger(body)
            assert sum(entry["usd"] for entry in ledger["runs"].values()) <= CAP
            assert not ledger["runs"].keys() & ledger["queue"].keys()


def read_last_ledger(world: World) -> Any:
    """Return the newest ledger: empty if every run was stopped before it could reserve."""
    written = world.list_keys("ledger/")
    return world.read(written[-1]) if written else {"runs": {}, "queue": {}}


def find_waited_in_vain(world: World) -> list[str]:
    """Return the results of runs that failed because they waited for as long as they may."""
    results = [key for key in world.list_keys("runs/") if key.endswith("/result.json")]
    return [key for key in results if "gave up after waiting 62 days" in (world.read(key)["reason"] or "")]


def list_statuses(world: World) -> set[str]:
    return {world.read(key)["status"] for key in world.list_keys("runs/") if key.endswith("/result.json")}


@settings(max_examples=40, deadline=None)
@given(events=EVENTS, trouble=TROUBLES)
def test_the_cap_holds_whatever_happens_and_every_run_gets_its_turn(
    events: list[tuple[str, bool]], trouble: dict[int, str]
) -> None:
    """Any order of events, calls throttled, functions killed, months that turn: all are deployed in the end.

    But for those that waited for months, since nothing ended and gave them room: they have failed, and say so.
    """
    world = make_world(trouble)
    for event, ends in [("sweep", False), *events]:
        deliver(world, event)
        if ends:
            world.end_everything()
        check_ledgers(world)
    settle(world)
    check_ledgers(world)
    in_vain = find_waited_in_vain(world)
    assert list_statuses(world) == {"deployed", *(["failed"] if in_vain else [])}
    assert not in_vain or [event for event, _ in events].count("month") > 3
    runs = [key for key in world.list_keys("runs/") if key.endswith("/run.json")]
    assert len(world.sagemaker.kept["HyperParameterTuningJob"]) == len(runs) - len(in_vain)
    assert world.list_keys("active/") == []
    last = read_last_ledger(world)
    assert {entry["state"] for entry in last["runs"].values()} <= {"settled"}
    assert last["queue"] == {}


@settings(max_examples=30, deadline=None)
@given(events=EVENTS, trouble=TROUBLES, at=st.integers(0, 10))
def test_a_stopped_run_holds_nothing_back(events: list[tuple[str, bool]], trouble: dict[int, str], at: int) -> None:
    """Stopped while it waits, reserves or runs, a run leaves the queue and gives back what it did not need."""
    world = make_world(trouble)
    for number, (event, ends) in enumerate([("sweep", False), *events]):
        if number >= at:
            stop_dogs(world)
        deliver(world, event)
        if ends:
            world.end_everything()
    settle(world)
    check_ledgers(world)
    in_vain = find_waited_in_vain(world)
    assert list_statuses(world) <= {"deployed", "stopped", *(["failed"] if in_vain else [])}
    assert world.list_keys("active/") == []
    last = read_last_ledger(world)
    assert (last["queue"], {entry["state"] for entry in last["runs"].values()} - {"settled"}) == ({}, set())


def stop_dogs(world: World) -> None:
    for key in world.list_keys("runs/"):
        if key.endswith("/run.json") and world.read(key)["dataset"] == "dogs":
            with contextlib.suppress(WhippetError, Killed):
                stop_run(key.split("/")[1], "ann", world.services())


@pytest.mark.parametrize("kind", ["before", "meanwhile"])
def test_a_function_killed_at_the_ledger_leaves_it_right(kind: str) -> None:
    """The kill comes before each call of a look that reserves, one after another, and after the last one.

    A kill after any other call leaves what a kill before the next one leaves; and so does a kill before a call that
    only reads. What has been left before is not settled again.
    """
    clean = make_world({})
    deliver(clean, "dogs")
    last = len(clean.trouble.calls) - 1
    left: list[Any] = []
    for trouble in [*({number: kind} for number in range(last + 1)), {last: "after"}]:
        world = make_world(trouble)
        deliver(world, "dogs")
        state = (world.s3.versions, world.s3.hidden, world.sagemaker.kept)
        if state in left:
            continue
        left.append(deepcopy(state))
        settle(world)
        check_ledgers(world)
        assert list_statuses(world) == {"deployed"}


def test_runs_begin_in_the_order_in_which_they_came() -> None:
    """The order of the sweep does not matter: cats came before mice, and mice would fit beside dogs."""
    world = make_world({})
    for name in DATASETS:
        deliver(world, name)
    settle(world)
    begun = [
        name
        for operation, request in world.sagemaker.requests
        if "Tuning" in operation
        for name in [request["HyperParameterTuningJobName"]]
    ]
    created = sorted(begun, key=lambda run_id: world.read(f"runs/{run_id}/run.json")["created_at"])
    assert all(created.index(one) < created.index(other) for one, other in pairwise(begun))
