"""Endpoints on machines that AWS does not have, or the account may not use: the next type in the list is tried."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chalicelib.pipeline.advance import advance
from chalicelib.pipeline.intake import look_at_dataset
from chalicelib.runs.identity import make_endpoint_name
from tests.fakes.world import SETTINGS, World
from tests.support.pictures import build_small_zip

FIRST, SECOND, THIRD = "ml.m5.large", "ml.m5.xlarge", "ml.c5.xlarge"
RECIPE = {"endpoint": {"kind": "instance"}, "instance_types": {"endpoint": [FIRST, SECOND]}}
ENDPOINT = make_endpoint_name(SETTINGS, "dogs")
NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. Please retry using a "
    "different ML instance type or after some time."
)


@pytest.fixture
def world() -> World:
    return World()


def start(world: World, recipe: dict[str, Any] = RECIPE, seed: int = 0) -> str:
    world.upload("dogs.json", json.dumps(recipe).encode())
    world.upload("dogs.zip", build_small_zip(seed))
    return look_at_dataset("dogs", world.services()) or ""


def deploy(world: World, run_id: str) -> str:
    """End the jobs, so that the endpoint is asked for."""
    for _ in range(2):
        world.end_everything()
        advance(run_id, world.services())
    return advance(run_id, world.services())


def lack(world: World, run_id: str, status: str = "Failed") -> str:
    """End the current deployment for lack of a machine."""
    world.end_deployment(ENDPOINT, status, NO_CAPACITY)
    return advance(run_id, world.services())


def end(world: World, run_id: str) -> str:
    world.end_everything()
    return advance(run_id, world.services())


def read_machine(world: World, run_id: str) -> Any:
    """Return the instance type of the config that the endpoint is on."""
    assert world.sagemaker.kept["Endpoint"][ENDPOINT]["EndpointConfigName"] == run_id
    [variant] = world.sagemaker.kept["EndpointConfig"][run_id]["ProductionVariants"]
    return variant["InstanceType"]


def test_an_endpoint_beyond_a_quota_goes_to_the_next_type(world: World) -> None:
    """This happens at once, and the run says which machine it is on."""
    world.sagemaker.quotas = {FIRST: 0}
    run_id = start(world)
    assert deploy(world, run_id) == "deploying"
    assert end(world, run_id) == "deployed"
    assert read_machine(world, run_id) == SECOND
    assert world.read(f"runs/{run_id}/deployment.json")["instance_type"] == SECOND


def test_an_endpoint_for_which_no_type_has_a_quota_fails_with_what_to_do(world: World) -> None:
    """The reason names each of them."""
    world.sagemaker.quotas = {FIRST: 0, SECOND: 0}
    run_id = start(world)
    assert deploy(world, run_id) == "failed"
    reason = world.read(f"runs/{run_id}/result.json")["reason"]
    assert f"'{FIRST} for endpoint usage' is 0" in reason
    assert f"'{SECOND} for endpoint usage' is 0" in reason


def test_an_endpoint_that_is_refused_waits_for_a_type_that_is_used_up(world: World) -> None:
    """The run waits for a quota that nobody has to raise."""
    world.sagemaker.quotas, world.sagemaker.limits = {FIRST: 0}, {"Endpoint"}
    run_id = start(world)
    assert deploy(world, run_id) == "waiting"
    world.sagemaker.limits = set()
    assert advance(run_id, world.services()) == "deploying"
    assert end(world, run_id) == "deployed"
    assert read_machine(world, run_id) == SECOND


def test_an_endpoint_without_a_machine_is_made_anew_on_the_next_type(world: World) -> None:
    """The failed endpoint is deleted first, as nothing else is allowed; the deployment is announced once."""
    run_id = start(world)
    deploy(world, run_id)
    assert lack(world, run_id) == "deploying"
    assert world.read(f"runs/{run_id}/no-machine-1.json")["instance_type"] == FIRST
    assert end(world, run_id) == "deployed"
    assert read_machine(world, run_id) == SECOND
    assert world.sagemaker.count("DeleteEndpoint") == 1
    assert [name for name, _ in world.events.sent].count("Deployment Started") == 1


def test_an_endpoint_that_went_back_is_moved_to_the_next_type(world: World) -> None:
    """It keeps serving throughout."""
    first = start(world)
    deploy(world, first)
    assert end(world, first) == "deployed"
    second = start(world, seed=1)
    deploy(world, second)
    assert lack(world, second, "InService") == "deploying"
    assert world.sagemaker.kept["Endpoint"][ENDPOINT]["EndpointConfigName"] == first
    assert end(world, second) == "deployed"
    assert read_machine(world, second) == SECOND
    assert world.sagemaker.count("DeleteEndpoint") == 0


@pytest.mark.parametrize("types", [[FIRST], [FIRST, SECOND], [FIRST, SECOND, THIRD]])
def test_an_endpoint_without_any_machine_fails_with_the_reason(world: World, types: list[str]) -> None:
    """The list limits the tries."""
    run_id = start(world, {**RECIPE, "instance_types": {"endpoint": types}})
    status = deploy(world, run_id)
    for _ in types:
        assert status == "deploying"
        status = lack(world, run_id)
    assert status == "failed"
    assert "InsufficientInstanceCapacity" in world.read(f"runs/{run_id}/result.json")["reason"]
    assert world.sagemaker.count("CreateEndpoint") == len(types)


def test_what_serves_goes_on_scaling_where_its_successor_has_no_quota(world: World) -> None:
    """Scaling stops before an endpoint gets other machines; if it gets none, it scales as before."""
    scaled = {"endpoint": {"kind": "instance", "min_instances": 2, "max_instances": 5}}
    first = start(world, scaled)
    deploy(world, first)
    assert end(world, first) == "deployed"
    [numbers] = world.autoscaling.targets.values()
    assert numbers == (2, 5)
    world.sagemaker.quotas = {THIRD: 0}
    second = start(world, {**scaled, "instance_types": {"endpoint": [THIRD]}}, seed=1)
    assert deploy(world, second) == "failed"
    assert list(world.autoscaling.targets.values()) == [numbers]


def test_another_failure_tries_no_other_machine(world: World) -> None:
    """A model that does not start on one machine would not start on another."""
    run_id = start(world)
    deploy(world, run_id)
    world.end_deployment(ENDPOINT, "Failed", "The primary container did not pass the ping health check.")
    assert advance(run_id, world.services()) == "failed"
    assert world.sagemaker.count("CreateEndpoint") == 1
