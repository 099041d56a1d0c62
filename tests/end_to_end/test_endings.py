"""Test that stopping a run, deleting a model and deleting a dataset end the billing, with the roles' own permissions.

After each nothing is in progress, nothing serves, and the meter stands still.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.runs.claims import CLAIM_SECONDS
from localcloud.iam.call_log import Recorded, read_calls
from tests.end_to_end.conftest import upload_small_dataset
from tests.support.local_cloud import LocalCloud, wait_until
from tests.support.pictures import draw_test_picture

SHORT: dict[str, Any] = {"trials": 1, "parallel_trials": 1}
LONG: dict[str, Any] = {**SHORT, "epochs": 500}
TYPES = ["ml.m5.large", "ml.m5.xlarge"]
ON_MACHINES = {"endpoint": {"kind": "instance"}, "instance_types": {"endpoint": TYPES}}
BUSY = ("InProgress", "Stopping")
STILL = 2.5  # seconds in which a meter that runs shows more


@pytest.fixture(scope="module")
def served(cloud: LocalCloud) -> Iterator[dict[str, dict[str, Any]]]:
    """Return two deployed runs by dataset. `end-set` is on machines, without a quota for the first type."""
    faults = cloud.home / "faults.json"
    faults.write_text(json.dumps({"quotas": {f"{TYPES[0]} for endpoint usage": 0}}))
    upload_small_dataset(cloud, "end-set", **SHORT, **ON_MACHINES)
    upload_small_dataset(cloud, "end-model", **SHORT)
    runs = {name: wait_for_end(cloud, name) for name in ("end-set", "end-model")}
    yield runs
    faults.unlink()


def wait_for_end(cloud: LocalCloud, dataset: str) -> dict[str, Any]:
    run = cloud.wait_for_status(dataset, "deployed", "failed", "rejected", "stopped")
    assert run["status"] == "deployed", run
    return run


def begin(cloud: LocalCloud, dataset: str) -> dict[str, Any]:
    """Return a run of many epochs once its meter has moved."""
    upload_small_dataset(cloud, dataset, **LONG)
    run = cloud.wait_for_status(dataset, "tuning", "failed", "rejected")
    look = lambda: run if (describe(cloud, run)["cost"]["spent_usd"] or 0) > 0 else None  # noqa: E731
    return wait_until(look, within=120, what=f"{dataset} is billed", every=0.5)


def describe(cloud: LocalCloud, run: dict[str, Any]) -> dict[str, Any]:
    return dict(cloud.api.get(f"/runs/{run['run_id']}").raise_for_status().json())


def list_busy(cloud: LocalCloud, run: dict[str, Any]) -> list[str]:
    """List the jobs of a run that are billed."""
    name, sagemaker = run["run_id"], cloud.sagemaker
    jobs = sagemaker.list_training_jobs(NameContains=name, MaxResults=100)["TrainingJobSummaries"]
    tunings = sagemaker.list_hyper_parameter_tuning_jobs(NameContains=name)["HyperParameterTuningJobSummaries"]
    assert tunings
    assert jobs
    busy = [each["TrainingJobName"] for each in jobs if each["TrainingJobStatus"] in BUSY]
    return busy + [name for each in tunings if each["HyperParameterTuningJobStatus"] in BUSY]


def list_serving(cloud: LocalCloud, dataset: str) -> list[str]:
    """List the endpoints, configs and models of a dataset."""
    part, sagemaker = f"-{dataset}-", cloud.sagemaker
    return [
        *(each["EndpointName"] for each in sagemaker.list_endpoints(NameContains=part)["Endpoints"]),
        *(each["EndpointConfigName"] for each in sagemaker.list_endpoint_configs(NameContains=part)["EndpointConfigs"]),
        *(each["ModelName"] for each in sagemaker.list_models(NameContains=part)["Models"]),
    ]


def read_meter(cloud: LocalCloud, run: dict[str, Any]) -> tuple[float, float]:
    told = describe(cloud, run)
    return (told["cost"]["spent_usd"], told["billable_seconds"])


def assert_meter_stands_still(cloud: LocalCloud, run: dict[str, Any]) -> None:
    before = read_meter(cloud, run)
    time.sleep(STILL)
    assert read_meter(cloud, run) == before
    assert before[0] > 0


def list_versions(cloud: LocalCloud, *parts: str) -> list[str]:
    """List the keys that contain one of these parts, in any version, deletion markers included."""
    pages = cloud.s3.get_paginator("list_object_versions").paginate(Bucket=cloud.bucket)
    kept = [each for page in pages for kind in ("Versions", "DeleteMarkers") for each in page.get(kind, [])]
    return [each["Key"] for each in kept if any(part in each["Key"] for part in parts)]


def delete_dataset(cloud: LocalCloud, name: str) -> dict[str, Any]:
    """Delete a dataset, again as often as the answers ask for it, until it is gone."""

    def look() -> dict[str, Any] | None:
        response = cloud.api.delete(f"/datasets/{name}")
        assert response.status_code in (200, 202), response.text
        return dict(response.json()) if response.status_code == 200 else None

    return wait_until(look, within=60, what=f"{name} is deleted", every=0.5)


def list_refused(cloud: LocalCloud) -> list[Recorded]:
    calls = read_calls([path for path in (cloud.home / "calls.1.jsonl", cloud.home / "calls.jsonl") if path.exists()])
    return [call for call in calls if not call.allowed and "end-" in str(call.needs)]


def test_an_endpoint_goes_to_the_machine_that_the_account_may_have(
    cloud: LocalCloud, served: dict[str, dict[str, Any]]
) -> None:
    """The first type in its list has a quota of 0."""
    config = cloud.sagemaker.describe_endpoint_config(EndpointConfigName=served["end-set"]["run_id"])
    assert config["ProductionVariants"][0]["InstanceType"] == TYPES[1]


def test_a_model_that_is_deleted_costs_nothing_more(cloud: LocalCloud, served: dict[str, dict[str, Any]]) -> None:
    """Endpoint, config and model are gone, no job of its run is left, and the meter stops; nothing answers."""
    run, picture = served["end-model"], draw_test_picture("red")
    assert {"end-model", "end-set"} <= {model["name"] for model in cloud.api.get("/models").json()["models"]}
    assert len(list_serving(cloud, "end-model")) == 3
    cloud.api.delete("/models/end-model").raise_for_status()
    address, headers = "/models/end-model/predict", {"Content-Type": "image/png"}
    assert cloud.api.post(address, content=picture, headers=headers).status_code == 404
    wait_until(lambda: not list_serving(cloud, "end-model") or None, within=30, what="nothing serves")
    assert list_busy(cloud, run) == []
    assert_meter_stands_still(cloud, run)


def test_a_dataset_that_is_deleted_leaves_nothing(cloud: LocalCloud, served: dict[str, dict[str, Any]]) -> None:
    """All versions of upload and recipe, the run's folder, its list entries and its model go, endpoint first."""
    run_id = served["end-set"]["run_id"]
    cloud.upload("end-set.json", b'{"trials": 3}')  # a second version of the recipe
    parts = (f"/{run_id}", "/end-set.", "/end-set/")
    assert len(list_versions(cloud, *parts)) > 20
    told = delete_dataset(cloud, "end-set")
    assert (told["runs"], told["left"]) == ([run_id], [])
    assert list_versions(cloud, *parts) == []
    assert list_serving(cloud, "end-set") == []
    assert list_busy(cloud, served["end-set"]) == []
    assert cloud.api.get(f"/runs/{run_id}").status_code == 404
    assert cloud.api.delete("/datasets/end-set").status_code == 404


def test_a_run_that_is_stopped_costs_nothing_more(cloud: LocalCloud) -> None:
    """Its trials and its tuning job have ended, nothing serves, and the meter stops."""
    run = begin(cloud, "end-run")
    assert list_busy(cloud, run)
    cloud.api.post(f"/runs/{run['run_id']}/stop").raise_for_status()
    assert cloud.wait_for_status("end-run", "stopped", "failed", "deployed")["status"] == "stopped"
    assert list_busy(cloud, run) == []
    assert list_serving(cloud, "end-run") == []
    assert_meter_stands_still(cloud, run)


def test_a_dataset_that_is_deleted_while_its_run_is_billed(cloud: LocalCloud) -> None:
    """The run is stopped and its upload removed at once; its files follow when no look at it can still be at work."""
    run = begin(cloud, "end-both")
    assert list_busy(cloud, run)
    response = cloud.api.delete("/datasets/end-both")
    assert (response.status_code, response.json()["status"]) == (202, "deleting")
    assert list_versions(cloud, "datasets/end-both.") == []
    cloud.wait_for_status("end-both", "stopped")
    wait_until(lambda: not list_busy(cloud, run) or None, within=30, what="no job is left")
    assert_meter_stands_still(cloud, run)
    again = cloud.api.delete("/datasets/end-both")
    assert again.status_code == 202
    assert "its files go when no job of it can begin any more" in again.json()["left"][0]
    let_time_pass(cloud, run)
    assert delete_dataset(cloud, "end-both")["runs"] == [run["run_id"]]
    assert list_versions(cloud, f"/{run['run_id']}", "/end-both/") == []
    assert list_serving(cloud, "end-both") == []


def let_time_pass(cloud: LocalCloud, run: dict[str, Any]) -> None:
    """Change the result so that the run ended longer ago than any function lives."""
    place = {"Bucket": cloud.bucket, "Key": f"runs/{run['run_id']}/result.json"}
    result = json.loads(cloud.s3.get_object(**place)["Body"].read())
    result["ended_at"] = (datetime.now(UTC) - timedelta(seconds=CLAIM_SECONDS + 1)).isoformat()
    cloud.s3.put_object(**place, Body=json.dumps(result).encode())


def test_the_roles_were_allowed_all_of_it(cloud: LocalCloud, served: dict[str, dict[str, Any]]) -> None:
    """No call about these datasets was refused by its role's policy."""
    assert list_refused(cloud) == []
