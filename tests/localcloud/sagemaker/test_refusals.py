"""The local cloud refuses what AWS refuses beyond its service model, with AWS's codes and texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from localcloud.common.faults import Faults
from localcloud.protocol.account_limits import PARALLEL_QUOTA, list_defaults
from localcloud.protocol.errors import ServiceError
from tests.localcloud.sagemaker.simulation import World, build_tuning_request
from tests.localcloud.sagemaker.test_endpoint_states import World as EndpointWorld
from tests.localcloud.sagemaker_support import IMAGE, build_training_request

ABROAD = IMAGE.replace("us-east-1", "eu-central-1")
RESERVED = [{"Key": "aws:owner", "Value": "me"}]
TAG_TEXT = "System prefix 'aws:' reserved for AWS usage in tag key: aws:owner"


def refuse(world: Any, operation: str, **request: Any) -> tuple[str, str]:
    """Return the code and the text with which a request is refused."""
    with pytest.raises(ServiceError) as refused:
        world.call(operation, **request)
    return refused.value.code, refused.value.message


def build_training(**changes: Any) -> dict[str, Any]:
    return build_training_request("job", "s3://training/code.tar.gz", "s3://training/out") | changes


def test_a_tag_key_that_aws_keeps_for_itself_is_refused_everywhere(tmp_path: Path) -> None:
    """Creating a job, adding tags and deleting tags are refused, and nothing is created."""
    world = World(tmp_path)
    assert refuse(world, "CreateTrainingJob", **build_training(Tags=RESERVED)) == ("ValidationException", TAG_TEXT)
    tuning = build_tuning_request("tuning") | {"Tags": RESERVED}
    assert refuse(world, "CreateHyperParameterTuningJob", **tuning) == ("ValidationException", TAG_TEXT)
    arn = world.call("CreateTrainingJob", **build_training())["TrainingJobArn"]
    assert refuse(world, "AddTags", ResourceArn=arn, Tags=RESERVED) == ("ValidationException", TAG_TEXT)
    assert refuse(world, "DeleteTags", ResourceArn=arn, TagKeys=["aws:owner"]) == ("ValidationException", TAG_TEXT)
    assert world.call("ListTags", ResourceArn=arn)["Tags"] == []
    assert len(world.call("ListTrainingJobs")["TrainingJobSummaries"]) == 1


@pytest.mark.parametrize("operation", ["CreateTrainingJob", "CreateHyperParameterTuningJob"])
def test_a_training_image_of_another_region_is_refused(tmp_path: Path, operation: str) -> None:
    """AWS names the region's own host. An image outside ECR is left to the pull."""
    world = World(tmp_path)
    request = build_training() if operation == "CreateTrainingJob" else build_tuning_request("tuning")
    algorithm = request.get("TrainingJobDefinition", request)["AlgorithmSpecification"]
    algorithm["TrainingImage"] = ABROAD
    assert refuse(world, operation, **request) == (
        "ValidationException",
        "Invalid DNS suffix 'amazonaws.com' for region 'eu-central-1' in training image. Please provide the valid "
        "<region>.<dns-suffix>: 'us-east-1.amazonaws.com'",
    )
    algorithm["TrainingImage"] = "registry.example.com/training:1"
    world.call(operation, **request)


def test_a_model_image_of_another_region_is_refused(tmp_path: Path) -> None:
    """CreateModel has words of its own for it."""
    container = {"Image": ABROAD, "ModelDataUrl": "s3://bucket/model.tar.gz"}
    assert refuse(EndpointWorld(tmp_path), "CreateModel", ModelName="new-model", PrimaryContainer=container) == (
        "ValidationException",
        f'Region of "{ABROAD}" does not match expected region of us-east-1. Cross region ECR image pulls are not '
        "allowed.",
    )


def test_more_parallel_trials_than_trials_are_refused(tmp_path: Path) -> None:
    """Both numbers are named, and nothing is launched."""
    world = World(tmp_path)
    code, text = refuse(world, "CreateHyperParameterTuningJob", **build_tuning_request("tuning", jobs=2, parallel=3))
    assert code == "ValidationException"
    assert "MaxParallelTrainingJobs [3]" in text
    assert "MaxNumberOfTrainingJobs [2]" in text
    assert world.call("ListHyperParameterTuningJobs")["HyperParameterTuningJobSummaries"] == []


@pytest.mark.parametrize(("faults", "parallel"), [(Faults(), 11), (Faults(quotas={PARALLEL_QUOTA: 2}), 3)])
def test_more_parallel_trials_than_the_account_may_run_are_refused(
    tmp_path: Path, faults: Faults, parallel: int
) -> None:
    """The limit is 10 for every account, as Service Quotas says here too, or what faults.json says."""
    world = World(tmp_path)
    world.faults = faults
    request = build_tuning_request("tuning", jobs=12, parallel=parallel)
    code, text = refuse(world, "CreateHyperParameterTuningJob", **request)
    assert code == "ResourceLimitExceeded"
    assert f"'{PARALLEL_QUOTA}' is {parallel - 1}" in text
    assert f"request delta of {parallel}" in text
    assert list_defaults()[PARALLEL_QUOTA] == 10


def test_more_trials_than_there_are_combinations_are_refused(tmp_path: Path) -> None:
    """Ranges without a continuous one hold a number of points, which must suffice for the trials."""
    world = World(tmp_path)
    ranges = {
        "IntegerParameterRanges": [{"Name": "layers", "MinValue": "1", "MaxValue": "3"}],
        "CategoricalParameterRanges": [{"Name": "batch_size", "Values": ["16"]}],
    }
    assert refuse(world, "CreateHyperParameterTuningJob", **build_tuning_request("few", jobs=4, ranges=ranges)) == (
        "ValidationException",
        "You don't have enough combinations of hyperparameter ranges. The total number of hyperparameter combinations "
        "for the provided ranges [3.0] must be equal or greater than the value of MaxNumberOfJobs, [4]. Provide "
        "additional ranges.",
    )
    assert world.tune("enough", jobs=3, ranges=ranges)["HyperParameterTuningJobStatus"] == "Completed"


def test_an_update_of_an_endpoint_whose_config_is_gone_is_refused(tmp_path: Path) -> None:
    """AWS looks up the old config too: after its deletion the endpoint serves, and cannot be updated."""
    world = EndpointWorld(tmp_path)
    world.runner.last[1].succeed()
    world.call("DeleteEndpointConfig", EndpointConfigName="old")
    assert refuse(world, "UpdateEndpoint", EndpointName="dogs", EndpointConfigName="new") == (
        "ValidationException",
        f'Could not find endpoint configuration "{world.cloud.arn("endpoint-config", "old")}".',
    )
    assert world.look() == ("InService", "old")


def test_a_deleted_endpoint_is_deleting_for_a_while(tmp_path: Path) -> None:
    """Until it is gone its name is taken, it can be neither updated nor deleted again, and it takes no request."""
    world = World(tmp_path)
    endpoints = EndpointWorld(tmp_path / "endpoints")
    endpoints.cloud.clock = world.clock
    endpoints.runner.last[1].succeed()
    endpoints.call("DeleteEndpoint", EndpointName="dogs")
    began = world.clock.now()
    assert endpoints.look() == ("Deleting", "old")
    taken = refuse(endpoints, "CreateEndpoint", EndpointName="dogs", EndpointConfigName="new")
    assert taken[1].startswith("Cannot create already existing endpoint")
    assert refuse(endpoints, "DeleteEndpoint", EndpointName="dogs")[1].startswith("Cannot update in-progress endpoint")
    world.clock.run()
    assert (world.clock.now() - began).total_seconds() >= 1
    assert endpoints.cloud.store.names("endpoint") == ()
