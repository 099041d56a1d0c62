"""What the local cloud accepts as AWS does: spot, several instance types, a VPC, keys, the debugger's blocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localcloud.common.store import Record
from localcloud.jobs.directory import JobDirectory
from localcloud.protocol.errors import ServiceError
from tests.localcloud.sagemaker.simulation import World, build_tuning_request
from tests.localcloud.sagemaker_support import build_training_request

VPC = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1", "subnet-2"]}
SPOT = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 900},
}
CHOICES = [
    {"InstanceType": name, "InstanceCount": 1, "VolumeSizeInGB": 9} for name in ("ml.g4dn.xlarge", "ml.g5.xlarge")
]
HOOK = {
    "S3OutputPath": "s3://b/tensors",
    "CollectionConfigurations": [{"CollectionName": "losses", "CollectionParameters": {"save_interval": "5"}}],
}


def build_job(**changes: Any) -> dict[str, Any]:
    return build_training_request("job", "s3://b/c", "s3://b/out") | changes


def describe(world: World) -> Record:
    return world.call("DescribeTrainingJob", TrainingJobName="job")


def test_a_spot_job_in_a_vpc_with_keys_is_described_as_it_was_asked_for(tmp_path: Path) -> None:
    """They do not change what the program does here. Describe shows all of them."""
    resources = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 9, "VolumeKmsKeyId": "key"}
    output = {"S3OutputPath": "s3://b/out", "KmsKeyId": "key"}
    request = build_job(VpcConfig=VPC, ResourceConfig=resources, OutputDataConfig=output, **SPOT)
    world = World(tmp_path)
    world.call("CreateTrainingJob", **request)
    world.clock.run()
    job = describe(world)
    assert job["TrainingJobStatus"] == "Completed"
    assert {name: job[name] for name in request if name not in ("Tags",)} == request


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"VpcConfig": VPC | {"Subnets": ["vpc-1"]}}, "subnet IDs .*vpc-1.* do not exist"),
        ({"VpcConfig": VPC | {"SecurityGroupIds": ["sg-1", "sg-1"]}}, "security group IDs .* must be unique"),
        ({"DebugHookConfig": HOOK | {"LocalPath": "/tmp/x"}}, "debugger's folder below /opt/ml/ alone"),
        ({"ProfilerConfig": {"ProfilingIntervalInMilliseconds": 300}}, "ProfilingIntervalInMilliseconds is 300"),
        ({"ProfilerConfig": {"ProfilingIntervalInMilliseconds": 500}}, "must have an S3OutputPath"),
        (SPOT | {"StoppingCondition": {"MaxRuntimeInSeconds": 9, "MaxWaitTimeInSeconds": 8}}, "greater than or equal"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    """Invalid subnets, a folder out of reach, an unknown interval, and a wait shorter than the run are refused."""
    with pytest.raises(ServiceError, match=text):
        World(tmp_path).call("CreateTrainingJob", **build_job(**changes))


def test_the_hook_and_the_profiler_find_their_configuration_where_sagemaker_writes_it(tmp_path: Path) -> None:
    """They are below input/config, and the hook's folder is in the job's own tree. Describe shows AWS's defaults."""
    world = World(tmp_path)
    profiler = {"S3OutputPath": "s3://b/profiler"}
    world.call("CreateTrainingJob", **build_job(DebugHookConfig=HOOK, ProfilerConfig=profiler))
    job = describe(world)
    assert job["DebugHookConfig"] == HOOK | {"LocalPath": "/opt/ml/output/tensors"}
    assert job["ProfilerConfig"]["ProfilingIntervalInMilliseconds"] == 500
    directory = JobDirectory(tmp_path / "job")
    directory.prepare(job, cores=1)
    hook = json.loads((directory.config / "debughookconfig.json").read_text())
    assert hook == HOOK | {"LocalPath": str(directory.output / "tensors")}
    assert json.loads((directory.config / "profilerconfig.json").read_text()) == job["ProfilerConfig"]


def build_tuning(**definition: Any) -> dict[str, Any]:
    request = build_tuning_request("tuning", jobs=2)
    request["TrainingJobDefinition"] |= definition
    return {name: value for name, value in request.items() if value is not None}


def test_a_tuning_job_takes_its_instances_in_order_of_preference(tmp_path: Path) -> None:
    """Its training jobs get the first of InstanceConfigs and the shared key of the volumes."""
    request = build_tuning(VpcConfig=VPC, **SPOT)
    del request["TrainingJobDefinition"]["ResourceConfig"]
    resources = {"InstanceConfigs": CHOICES, "AllocationStrategy": "Prioritized", "VolumeKmsKeyId": "key"}
    request["TrainingJobDefinition"]["HyperParameterTuningResourceConfig"] = resources
    world = World(tmp_path)
    world.call("CreateHyperParameterTuningJob", **request)
    world.clock.run()
    child = world.call("DescribeTrainingJob", TrainingJobName=world.children()[0]["TrainingJobName"])
    assert child["ResourceConfig"] == CHOICES[0] | {"VolumeKmsKeyId": "key"}
    assert child["EnableManagedSpotTraining"] is True
    assert child["VpcConfig"] == VPC
    assert world.describe()["TrainingJobDefinition"]["HyperParameterTuningResourceConfig"] == resources


@pytest.mark.parametrize(
    ("resources", "keep", "text"),
    [
        ({"InstanceConfigs": CHOICES}, True, "either ResourceConfig or HyperParameterTuningResourceConfig"),
        (None, False, "either ResourceConfig or HyperParameterTuningResourceConfig"),
        ({"VolumeSizeInGB": 5}, False, "must have an InstanceType"),
        ({"InstanceConfigs": CHOICES, "InstanceType": "ml.m5.xlarge"}, False, "must not have InstanceType"),
        ({"InstanceConfigs": CHOICES[:1] * 2}, False, "must be unique"),
    ],
)
def test_a_tuning_job_says_once_which_instances_it_wants(
    tmp_path: Path, resources: dict[str, Any] | None, keep: bool, text: str
) -> None:
    """It has one of the two members, with one type or a list of different ones."""
    request = build_tuning(**({"HyperParameterTuningResourceConfig": resources} if resources else {}))
    if not keep:
        del request["TrainingJobDefinition"]["ResourceConfig"]
    with pytest.raises(ServiceError, match=text):
        World(tmp_path).call("CreateHyperParameterTuningJob", **request)
