"""Endpoints for which machines are missing, while functions are killed between calls and looks run at once."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import WhippetError
from chalicelib.pipeline.advance import advance
from chalicelib.pipeline.intake import look_at_dataset
from chalicelib.pipeline.sweep import sweep
from tests.fakes.clients import Killed
from tests.fakes.world import World
from tests.support.pictures import build_small_zip

FIRST, SECOND, THIRD = "ml.m5.large", "ml.m5.xlarge", "ml.c5.xlarge"
RECIPE = {"endpoint": {"kind": "instance"}, "instance_types": {"endpoint": [FIRST, SECOND, THIRD]}}
NO_CAPACITY = "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error."
KINDS = st.sampled_from(["throttle", "before", "after", "meanwhile after"])


def start(world: World) -> str:
    world.upload("dogs.json", json.dumps(RECIPE).encode())
    world.upload("dogs.zip", build_small_zip())
    return look_at_dataset("dogs", world.services()) or ""


@settings(max_examples=30, deadline=None)
@given(
    trouble=st.dictionaries(st.integers(0, 120), KINDS, max_size=5), lacking=st.sets(st.sampled_from([FIRST, SECOND]))
)
def test_killed_functions_leave_one_endpoint_on_a_machine_that_is_there(
    trouble: dict[int, str], lacking: set[str]
) -> None:
    """Calls are throttled, functions killed between calls, looks run at once, and types are not available."""
    world = World()
    run_id = ""
    for _ in range(2):
        run_id = run_id or start(world)
        world.end_everything()
        advance(run_id, world.services())
    world.trouble.other = lambda: look(world)
    begun = len(world.trouble.calls)
    world.trouble.plan = {begun + number: kind for number, kind in trouble.items()}
    for _ in range(10):
        look(world)
        end_where_machines_are(world, lacking)
        world.clock.sleep(400)
    world.trouble.plan = {}
    for _ in range(10):
        end_where_machines_are(world, lacking)
        world.clock.sleep(400)
        look(world)
    assert world.read(f"runs/{run_id}/result.json")["status"] == "deployed"
    assert read_machine(world) not in lacking
    assert [len(world.sagemaker.kept[kind]) for kind in ("Endpoint", "EndpointConfig", "Model")] == [1, 1, 1]
    assert world.list_keys("active/") == []


def look(world: World) -> None:
    try:
        sweep(world.services())
    except (WhippetError, Killed):
        return


def end_where_machines_are(world: World, lacking: set[str]) -> None:
    """End what is in flight: it serves, or fails if its machine is not available."""
    for name, endpoint in world.sagemaker.kept["Endpoint"].items():
        types = set(world.sagemaker.list_types("Endpoint", endpoint))
        if endpoint["EndpointStatus"] == "Creating" and types & lacking:
            world.end_deployment(name, "Failed", NO_CAPACITY)
    world.end_everything()


def read_machine(world: World) -> str:
    """Return the instance type that the endpoint serves on."""
    (endpoint,) = world.sagemaker.kept["Endpoint"].values()
    (machine,) = world.sagemaker.list_types("Endpoint", endpoint)
    return str(machine)
