"""Test deliberate faults in simulated time: quotas, instance types without capacity, and the file that sets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localcloud.common.faults import BadFaults, ColdStart, FaultFile, Faults, Interruption, parse_faults
from localcloud.jobs.spot import Market
from localcloud.protocol.errors import ServiceError
from tests.localcloud.sagemaker.simulation import World, build_tuning_request
from tests.localcloud.sagemaker_support import build_training_request

SPOT = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 900},
}
TYPES = ("ml.g4dn.xlarge", "ml.g5.xlarge")


def build_choices() -> dict[str, Any]:
    """Build a tuning job with two instance types, in order of preference."""
    request = build_tuning_request("tuning", jobs=2, parallel=2)
    del request["TrainingJobDefinition"]["ResourceConfig"]
    choices = [{"InstanceType": name, "InstanceCount": 1, "VolumeSizeInGB": 9} for name in TYPES]
    resources = {"InstanceConfigs": choices, "AllocationStrategy": "Prioritized"}
    request["TrainingJobDefinition"]["HyperParameterTuningResourceConfig"] = resources
    return request


def test_a_training_beyond_its_quota_is_refused_in_aws_words(tmp_path: Path) -> None:
    """The refusal has the quota's name, its limit, the use and the request; spot has a quota of its own."""
    world = World(tmp_path)
    world.faults = Faults(quotas={"ml.m5.xlarge for training job usage": 1})
    world.call("CreateTrainingJob", **build_training_request("one", "s3://b/c", "s3://b/out"))
    text = (
        "The account-level service limit 'ml.m5.xlarge for training job usage' is 1 Instances, with current "
        "utilization of 1 Instances and a request delta of 1 Instances. Please use AWS Service Quotas"
    )
    two = build_training_request("two", "s3://b/c", "s3://b/out")
    with pytest.raises(ServiceError, match=text) as refused:
        world.call("CreateTrainingJob", **two)
    assert refused.value.code == "ResourceLimitExceeded"
    world.call("CreateTrainingJob", **two | SPOT)
    world.clock.run()
    world.call("CreateTrainingJob", **build_training_request("three", "s3://b/c", "s3://b/out"))


def test_a_tuning_job_needs_quota_for_all_that_it_runs_at_once(tmp_path: Path) -> None:
    """One of its instance types must have the quota; otherwise the refusal names the preferred one."""
    world = World(tmp_path)
    quotas = {f"{name} for training job usage": 1 for name in TYPES}
    world.faults = Faults(quotas=quotas)
    with pytest.raises(ServiceError, match=r"'ml.g4dn.xlarge for .* is 1 Instances.*request delta of 2 Instances"):
        world.call("CreateHyperParameterTuningJob", **build_choices())
    world.faults = Faults(quotas=quotas | {"ml.g5.xlarge for training job usage": 2})
    world.call("CreateHyperParameterTuningJob", **build_choices())


@pytest.mark.parametrize(
    ("faults", "spot", "kind"),
    [
        (Faults(), True, "ml.g4dn.xlarge"),
        (Faults(no_capacity=frozenset(TYPES[:1])), False, "ml.g5.xlarge"),
        (Faults(no_spot_capacity=frozenset(TYPES[:1])), True, "ml.g5.xlarge"),
        (Faults(no_spot_capacity=frozenset(TYPES[:1])), False, "ml.g4dn.xlarge"),
        (Faults(no_capacity=frozenset(TYPES)), False, "ml.g4dn.xlarge"),
    ],
)
def test_a_tuning_job_takes_the_next_instance_type_where_one_is_not_to_be_had(
    tmp_path: Path, faults: Faults, spot: bool, kind: str
) -> None:
    """Types are tried in order of preference. Without capacity for any, the trainings wait for the first, or fail."""
    world, request = World(tmp_path), build_choices()
    world.faults = faults
    request["TrainingJobDefinition"] |= SPOT if spot else {}
    world.call("CreateHyperParameterTuningJob", **request)
    world.clock.run()
    names = [child["TrainingJobName"] for child in world.children()]
    jobs = [world.call("DescribeTrainingJob", TrainingJobName=name) for name in names]
    assert [job["ResourceConfig"]["InstanceType"] for job in jobs] == [kind] * 2


def test_the_file_of_faults_is_read_while_it_changes(tmp_path: Path) -> None:
    """The file may be written, changed, broken (the previous faults stay) and removed at run time."""
    read, path = FaultFile(tmp_path / "faults.json"), tmp_path / "faults.json"
    assert read() == Faults()
    document = {
        "no_capacity": ["ml.g5.xlarge"],
        "no_spot_capacity": ["ml.g4dn.xlarge"],
        "quotas": {"ml.m5.large for endpoint usage": 0},
        "interruptions": [{"job": "dogs-*", "after_seconds": 5}],
        "cold_start": {"idle_seconds": 60, "seconds": 8},
    }
    path.write_text(json.dumps(document))
    expected = Faults(
        frozenset({"ml.g5.xlarge"}),
        frozenset({"ml.g4dn.xlarge"}),
        {"ml.m5.large for endpoint usage": 0},
        (Interruption("dogs-*", 5),),
        ColdStart(60, 8),
    )
    assert read() == expected
    path.write_text('{"no_capacity": [')
    assert read() == expected
    path.unlink()
    assert read() == Faults()


@pytest.mark.parametrize(
    "document",
    [["no_capacity"], {"nonsense": 1}, {"no_capacity": "ml.g5.xlarge"}, {"interruptions": [{"after": 5}]}, 7],
)
def test_what_is_no_fault_is_told(document: Any) -> None:
    """An unknown member, or one of the wrong type, is reported."""
    with pytest.raises(BadFaults, match=r"faults.json|instance types"):
        parse_faults(document)


def test_a_market_counts_what_ran_and_what_was_waited_for() -> None:
    """MaxRuntime limits the running seconds of all lives together, MaxWaitTime those plus the waiting."""
    moment = [0.0]
    faults = Faults(interruptions=(Interruption("d*", 20, 1),))
    job = {"TrainingJobName": "dogs", "ResourceConfig": {"InstanceType": "ml.m5.xlarge"}} | SPOT
    market = Market(job, lambda: faults, lambda: moment[0])
    market.begin()
    assert not market.take_back()
    moment[0] = 20.0
    assert market.take_back()
    market.end()
    moment[0] = 300.0
    market.begin()
    assert (market.interruptions, market.take_back()) == (1, False)
    moment[0] = 879.0
    assert market.find_excess() is None
    moment[0] = 880.0
    assert market.find_excess() == "MaxRuntimeExceeded"
    market.end()
    waiting = Market(job, lambda: faults, lambda: moment[0])
    moment[0] += 900.0
    assert waiting.find_excess() == "MaxWaitTimeExceeded"
