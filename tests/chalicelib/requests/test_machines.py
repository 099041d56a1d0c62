"""The machines that requests ask for: spot, lists of types, images by kind, network, keys, tags."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chalicelib.recipes.instances import count_gpus
from chalicelib.recipes.resolving import resolve_recipe
from chalicelib.settings import Settings
from tests.chalicelib.requests.test_jobs import KEY, build_all, make_run
from tests.fakes.world import SETTINGS

GPUS = ["ml.g4dn.xlarge", "ml.g5.xlarge"]
JOBS = ("CreateHyperParameterTuningJob", "CreateTrainingJob")


def build(document: dict[str, Any], **settings: Any) -> dict[str, dict[str, Any]]:
    account = replace(SETTINGS, **settings)
    return build_all(make_run(), resolve_recipe(document, in_vpc=account.in_vpc), account)


def list_jobs(requests: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What describes the trials, and what describes the training."""
    return [requests["CreateHyperParameterTuningJob"]["TrainingJobDefinition"], requests["CreateTrainingJob"]]


def test_jobs_run_on_spot_machines_by_default() -> None:
    """With checkpoints to go on from, and time to wait for a machine beside the time that they run."""
    for job in list_jobs(build({})):
        stopping = job["StoppingCondition"]
        assert job["EnableManagedSpotTraining"]
        assert stopping["MaxWaitTimeInSeconds"] > stopping["MaxRuntimeInSeconds"]
        assert job["CheckpointConfig"]["S3Uri"].endswith("/")


@pytest.mark.parametrize(("document", "account"), [({"spot": False}, {}), ({}, {"use_spot": False})])
def test_recipe_and_account_may_do_without_spot(document: dict[str, Any], account: dict[str, Any]) -> None:
    """SageMaker then refuses a MaxWaitTimeInSeconds."""
    for job in list_jobs(build(document, **account)):
        assert "EnableManagedSpotTraining" not in job
        assert "MaxWaitTimeInSeconds" not in job["StoppingCondition"]


def test_several_types_of_a_trial_are_a_list_of_preference() -> None:
    """SageMaker takes the first that can be had; one type alone is given as it always was."""
    several, _ = list_jobs(build({"instance_types": {"trial": GPUS}}))
    config = several["HyperParameterTuningResourceConfig"]
    assert [each["InstanceType"] for each in config["InstanceConfigs"]] == GPUS
    assert config["AllocationStrategy"] == "Prioritized"
    assert "ResourceConfig" not in several
    assert not {"InstanceType", "InstanceCount", "VolumeSizeInGB"} & set(config)
    single, _ = list_jobs(build({"instance_types": {"trial": GPUS[:1]}}))
    assert single["ResourceConfig"]["InstanceType"] == GPUS[0]
    assert "HyperParameterTuningResourceConfig" not in single


@pytest.mark.parametrize(("types", "kind"), [(GPUS, "gpu"), (["ml.m5.xlarge", "ml.c5.xlarge"], "cpu")])
def test_the_image_goes_with_the_machines(types: list[str], kind: str) -> None:
    """A GPU's for machines with one, else the smaller one."""
    for job in list_jobs(build({"instance_types": {"trial": types, "training": types}})):
        assert job["AlgorithmSpecification"]["TrainingImage"].endswith(f"-{kind}")
    document = {"endpoint": {"kind": "instance"}, "instance_types": {"endpoint": types}}
    assert build(document)["CreateModel"]["PrimaryContainer"]["Image"].endswith(f"-{kind}")
    assert build({})["CreateModel"]["PrimaryContainer"]["Image"].endswith("-cpu")


def test_everything_is_in_the_vpc() -> None:
    """Trials, training and model, so that the endpoint is too; it is an instance there."""
    requests = build({}, subnet_ids=("subnet-1",), security_group_ids=("sg-1", "sg-2"))
    config = {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1", "sg-2"]}
    assert [each["VpcConfig"] for each in (*list_jobs(requests), requests["CreateModel"])] == [config] * 3
    assert "InstanceType" in requests["CreateEndpointConfig"]["ProductionVariants"][0]
    assert all("VpcConfig" not in each for each in (*list_jobs(build({})), build({})["CreateModel"]))


def test_the_key_encrypts_what_it_may() -> None:
    """Outputs always; volumes where there are any, for SageMaker refuses a key for a machine with its own disk."""
    own_disk = build({}, kms_key_arn=KEY)
    volume = build({"instance_types": {"trial": ["ml.m5.xlarge"], "training": ["ml.m5.xlarge"]}}, kms_key_arn=KEY)
    for job in (*list_jobs(own_disk), *list_jobs(volume)):
        assert job["OutputDataConfig"]["KmsKeyId"] == KEY
    assert [job["ResourceConfig"]["VolumeKmsKeyId"] for job in list_jobs(volume)] == [KEY] * 2
    trials, training = list_jobs(own_disk)
    assert "VolumeKmsKeyId" not in trials["HyperParameterTuningResourceConfig"]
    assert "VolumeKmsKeyId" not in training["ResourceConfig"]
    assert all("KmsKeyId" not in job["OutputDataConfig"] for job in list_jobs(build({})))


@pytest.mark.parametrize(
    ("endpoint", "types", "expected"),
    [
        ({"kind": "instance"}, ["ml.m5.large"], KEY),
        ({"kind": "instance"}, ["ml.g4dn.xlarge"], None),
        ({"kind": "serverless"}, [], None),
    ],
)
def test_the_key_of_an_endpoint(endpoint: dict[str, Any], types: list[str], expected: str | None) -> None:
    """It is for the volume of a machine that has one."""
    document = {"endpoint": endpoint} | ({"instance_types": {"endpoint": types}} if types else {})
    assert build(document, kms_key_arn=KEY)["CreateEndpointConfig"].get("KmsKeyId") == expected


def test_everything_that_costs_carries_the_cost_tags() -> None:
    """Beside our own, which no cost tag may replace."""
    account: Settings = replace(SETTINGS, cost_tags={"team": "vision"})
    for operation, request in build({}, cost_tags=account.cost_tags).items():
        tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        assert tags["team"] == "vision", operation
        assert tags["whippet:run"] == make_run().run_id


def test_instances_are_as_few_as_the_recipe_says_at_the_start() -> None:
    """Autoscaling adds to them."""
    [variant] = build({"endpoint": {"kind": "instance", "min_instances": 3}})["CreateEndpointConfig"][
        "ProductionVariants"
    ]
    assert variant["InitialInstanceCount"] == 3


@pytest.mark.parametrize(
    ("machine", "count", "launched"),
    [
        ("ml.g5.xlarge", 1, False),
        ("ml.m5.xlarge", 1, False),
        ("ml.g5.xlarge", 2, True),
        ("ml.m5.xlarge", 2, True),
        ("ml.g5.12xlarge", 1, True),
        ("ml.g4dn.metal", 1, True),
        ("ml.g5.16xlarge", 1, False),
        ("ml.p5.4xlarge", 1, False),
    ],
)
def test_several_gpus_or_machines_train_together(machine: str, count: int, launched: bool) -> None:
    """SageMaker starts the final training with torchrun; a trial is one process on one machine, whatever it has."""
    document = {"instance_types": {"trial": [machine], "training": [machine]}, "instance_count": count}
    trial, training = list_jobs(build(document))
    name = "sagemaker_torch_distributed_enabled"
    assert (training["HyperParameters"].get(name) == "true") is launched
    assert training["ResourceConfig"]["InstanceCount"] == count
    assert name not in trial["StaticHyperParameters"]
    assert trial["ResourceConfig"]["InstanceCount"] == 1


@pytest.mark.parametrize(
    ("machine", "gpus"),
    [
        ("ml.m5.24xlarge", 0),
        ("ml.g4dn.8xlarge", 1),
        ("ml.g4dn.12xlarge", 4),
        ("ml.g6e.24xlarge", 4),
        ("ml.g5.48xlarge", 8),
        ("ml.g7e.12xlarge", 2),
        ("ml.p4d.24xlarge", 8),
        ("ml.p5en.48xlarge", 8),
    ],
)
def test_the_gpus_of_a_machine_are_known(machine: str, gpus: int) -> None:
    """By its family and size, as AWS lists them."""
    assert count_gpus(machine) == gpus
