"""Test that an endpoint on machines scales, becomes serverless, and leaves nothing behind, in the local cloud."""

from __future__ import annotations

from typing import Any

import pytest

from tests.end_to_end.conftest import upload_small_dataset
from tests.support.local_cloud import LocalCloud, wait_until
from tests.support.pictures import draw_test_picture

MACHINES = {"kind": "instance", "min_instances": 1, "max_instances": 3}


def deploy(cloud: LocalCloud, **endpoint: Any) -> dict[str, Any]:
    """Upload the dataset with this endpoint in its recipe. Returns the endpoint as SageMaker describes it."""
    before = len(cloud.list_runs("scaled"))
    upload_small_dataset(cloud, "scaled", trials=1, parallel_trials=1, endpoint=endpoint)
    wait_until(lambda: len(cloud.list_runs("scaled")) > before or None, within=60, what="the run is there")
    run = cloud.wait_for_status("scaled", "deployed", "failed", "rejected")
    assert run["status"] == "deployed", run
    (found,) = cloud.sagemaker.list_endpoints(NameContains="-scaled-")["Endpoints"]
    return dict(cloud.sagemaker.describe_endpoint(EndpointName=found["EndpointName"]))


def list_targets(cloud: LocalCloud) -> list[dict[str, Any]]:
    scaling = cloud.client("application-autoscaling")
    found = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    return [target for target in found if "-scaled-" in target["ResourceId"]]


@pytest.fixture(scope="module")
def on_machines(cloud: LocalCloud) -> dict[str, Any]:
    return deploy(cloud, **MACHINES)


def test_an_endpoint_on_machines_scales_with_its_requests(cloud: LocalCloud, on_machines: dict[str, Any]) -> None:
    """It scales between the recipe's numbers, by the requests of each machine; the functions' own roles allow it."""
    (target,) = list_targets(cloud)
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 3)
    scaling, resource = cloud.client("application-autoscaling"), target["ResourceId"]
    (policy,) = scaling.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=resource)["ScalingPolicies"]
    assert policy["PolicyType"] == "TargetTrackingScaling"
    assert on_machines["ProductionVariants"][0]["CurrentInstanceCount"] == 1


def test_it_becomes_a_serverless_one_and_goes(cloud: LocalCloud, on_machines: dict[str, Any]) -> None:
    """The next run's recipe asks for it: nothing scales any more. Deleting the model removes everything."""
    endpoint = deploy(cloud, kind="serverless")
    assert endpoint["CreationTime"] > on_machines["CreationTime"]
    assert "CurrentServerlessConfig" in endpoint["ProductionVariants"][0]
    assert list_targets(cloud) == []
    picture = draw_test_picture("red")
    answer = cloud.api.post("/models/scaled/predict", content=picture, headers={"Content-Type": "image/png"})
    assert answer.status_code == 200, answer.text
    cloud.api.delete("/models/scaled").raise_for_status()
    wait_until(lambda: None if list_scaled(cloud) else True, within=20, what="the deleted endpoint is gone")


def list_scaled(cloud: LocalCloud) -> list[Any]:
    """List the dataset's endpoints: a deleted one is shown as Deleting for a while, as on AWS."""
    return list(cloud.sagemaker.list_endpoints(NameContains="-scaled-")["Endpoints"])
