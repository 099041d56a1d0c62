"""Endpoints of both kinds: how they scale, how one replaces the other, and that nothing is left that costs money."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest

from chalicelib.models.catalog import delete_model
from chalicelib.pipeline.intake import advance_by_endpoint, look_at_dataset
from chalicelib.pipeline.sweep import sweep
from chalicelib.runs.identity import make_endpoint_name
from tests.fakes.clients import FakeClock, Killed
from tests.fakes.world import SETTINGS, World
from tests.support.pictures import build_small_zip

ENDPOINT = make_endpoint_name(SETTINGS, "dogs")
TARGET = f"endpoint/{ENDPOINT}/variant/{SETTINGS.app_name}-{SETTINGS.stage}"
MACHINES = {"endpoint": {"kind": "instance", "min_instances": 2, "max_instances": 5}}


def run(world: World, recipe: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """Upload the dataset with a recipe and let the run end. Returns its result."""
    world.upload("dogs.json", json.dumps(recipe).encode())
    world.upload("dogs.zip", build_small_zip(seed))
    run_id = look_at_dataset("dogs", world.services())
    for _ in range(8):
        world.end_everything()
        world.clock.sleep(400)
        sweep(world.services())
    return dict(world.read(f"runs/{run_id}/result.json"))


def test_an_endpoint_on_machines_scales(world: World) -> None:
    """It scales between the recipe's two numbers, by requests for each machine, once it serves."""
    result = run(world, MACHINES)
    assert result["status"] == "deployed"
    assert world.autoscaling.targets == {TARGET: (2, 5)}
    policy = world.autoscaling.policies[TARGET]
    assert policy["PolicyType"] == "TargetTrackingScaling"
    metric = policy["TargetTrackingScalingPolicyConfiguration"]["PredefinedMetricSpecification"]
    assert metric == {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    assert world.read(f"runs/{result['run_id']}/scaling.json")["max_instances"] == 5


def test_a_serverless_endpoint_scales_by_itself(world: World) -> None:
    """Nothing is registered and nothing is written."""
    result = run(world, {})
    assert world.autoscaling.targets == {}
    assert f"runs/{result['run_id']}/scaling.json" not in world.s3.versions


def test_one_number_of_machines_needs_no_scaling(world: World) -> None:
    """The fewest machines are also the most."""
    run(world, {"endpoint": {"kind": "instance", "min_instances": 2, "max_instances": 2}})
    assert world.autoscaling.targets == {}


def test_an_endpoint_that_scales_gets_other_machines(world: World) -> None:
    """SageMaker refuses this while it scales, so scaling stops before and starts again after."""
    run(world, MACHINES)
    bigger = {**MACHINES, "instance_types": {"endpoint": ["ml.m5.xlarge"]}}
    bigger["endpoint"] = MACHINES["endpoint"] | {"max_instances": 9}
    assert run(world, bigger, seed=1)["status"] == "deployed"
    assert world.autoscaling.targets == {TARGET: (2, 9)}


def test_machines_become_serverless_by_a_new_endpoint(world: World) -> None:
    """SageMaker cannot update it, so it is deleted and created; the run's folder says why."""
    first = run(world, MACHINES)
    second = run(world, {}, seed=1)
    assert (first["status"], second["status"]) == ("deployed", "deployed")
    assert world.autoscaling.targets == {}
    assert "ServerlessConfig" in world.sagemaker.kept["EndpointConfig"][second["run_id"]]["ProductionVariants"][0]
    assert world.sagemaker.count("DeleteEndpoint") == 1
    assert "created again" in world.read(f"runs/{second['run_id']}/replacement.json")["reason"]


class DeletingClock(FakeClock):
    """A clock in whose world a deletion takes a minute."""

    def __init__(self, world: World) -> None:
        self.world, self.time, self.slept = world, world.clock.time, 0.0

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.slept += seconds
        if self.slept >= 60:
            self.world.end_deletions()


def test_the_new_endpoint_is_created_as_soon_as_the_old_one_is_gone(world: World) -> None:
    """No event says that it is gone, and nothing answers until then: the event of its deletion waits for that."""
    run(world, MACHINES)
    world.upload("dogs.json", b"{}")
    world.upload("dogs.zip", build_small_zip(1))
    run_id = look_at_dataset("dogs", world.services())
    world.end_everything()
    sweep(world.services())
    world.end_everything()
    world.sagemaker.kept["Endpoint"][ENDPOINT]["EndpointStatus"] = "Deleting"  # as an earlier look left it
    world.clock = clock = DeletingClock(world)
    advance_by_endpoint(ENDPOINT, world.services())
    assert world.sagemaker.kept["Endpoint"][ENDPOINT]["EndpointConfigName"] == run_id
    assert 60 <= clock.slept < 80


def test_a_deleted_endpoint_for_which_no_run_waits_is_not_waited_for(world: World) -> None:
    """The event of a model that a person deleted costs nothing."""
    run(world, {})
    delete_model("dogs", world.services())
    world.clock = clock = DeletingClock(world)
    advance_by_endpoint(ENDPOINT, world.services())
    assert clock.slept == 0


def test_serverless_becomes_machines_without_a_pause(world: World) -> None:
    """SageMaker can update it this way round, and the old model answers until the new one does."""
    run(world, {})
    assert run(world, MACHINES, seed=1)["status"] == "deployed"
    assert world.sagemaker.count("DeleteEndpoint") == 0
    assert world.autoscaling.targets == {TARGET: (2, 5)}


def test_a_deployment_that_goes_back_scales_as_before(world: World) -> None:
    """The old model keeps serving, with its own numbers."""
    run(world, MACHINES)
    world.upload("dogs.json", json.dumps({"endpoint": {"kind": "instance", "max_instances": 9}}).encode())
    world.upload("dogs.zip", build_small_zip(1))
    run_id = look_at_dataset("dogs", world.services())
    for _ in range(2):
        world.end_everything()
        sweep(world.services())
    assert world.autoscaling.targets == {}
    world.end_deployment(ENDPOINT, "InService", "the container did not answer")
    sweep(world.services())
    assert "went back" in world.read(f"runs/{run_id}/result.json")["reason"]
    assert world.autoscaling.targets == {TARGET: (2, 5)}


def test_a_model_that_cannot_scale_answers_all_the_same(world: World) -> None:
    """The run's folder says what is wrong; the model is deployed with the machines that it has."""
    world.autoscaling.refuses = True
    result = run(world, MACHINES)
    assert result["status"] == "deployed"
    assert "cannot be scaled" in world.read(f"runs/{result['run_id']}/scaling.json")["problem"]


@pytest.mark.parametrize("recipe", [MACHINES, {}])
def test_taking_a_model_down_leaves_nothing_that_costs(world: World, recipe: dict[str, Any]) -> None:
    """Endpoint, scaling, configs and models of all its runs are deleted."""
    run(world, recipe)
    run(world, recipe, seed=1)
    deleted = delete_model("dogs", world.services())["deleted"]
    assert len(deleted) == 5
    assert world.autoscaling.targets == {}
    assert [kept for kind in ("Endpoint", "EndpointConfig", "Model") for kept in world.sagemaker.kept[kind]] == []


def test_a_model_that_is_taken_down_does_not_come_back(world: World) -> None:
    """A look was killed right after it asked for the endpoint, and a person deletes the model before the next one."""
    world.upload("dogs.zip", build_small_zip())
    run_id = str(look_at_dataset("dogs", world.services()))
    around = world.trouble.around

    def kill(operation: str, work: Any) -> Any:
        answer = around(operation, work)
        if operation == "create_endpoint":
            raise Killed(operation)
        return answer

    world.trouble.around = kill  # type: ignore[method-assign]
    for _ in range(2):
        world.end_everything()
        with contextlib.suppress(Killed):
            sweep(world.services())
    world.trouble.around = around  # type: ignore[method-assign]
    world.end_everything()
    world.clock.sleep(400)
    delete_model("dogs", world.services())
    world.end_deletions()
    for _ in range(4):
        sweep(world.services())
        world.end_everything()
    assert world.sagemaker.count("CreateEndpoint") == 1
    assert world.sagemaker.kept["Endpoint"] == {}
    result = world.read(f"runs/{run_id}/result.json")
    assert "was deleted while it was being deployed" in result["reason"]
