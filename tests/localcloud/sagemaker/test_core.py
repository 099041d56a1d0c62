"""The core's small parts: store, clock, pages, protocol, and what is refused by name."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.common.clock import SystemClock
from localcloud.common.store import Store
from localcloud.jobs.directory import JobDirectory
from localcloud.protocol.errors import ServiceError, Unsupported
from localcloud.sagemaker.app import OPERATIONS
from localcloud.sagemaker.core.cloud import Outcome
from localcloud.sagemaker.core.listing import take_page
from localcloud.sagemaker.core.unsupported import TRAINING_JOB, refuse_unsupported
from localcloud.sagemaker.training.jobs import build_record
from tests.localcloud.hosting import send_signed
from tests.localcloud.sagemaker.simulation import World
from tests.localcloud.sagemaker_support import LocalSageMaker, build_training_request, name_job, wait_until

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def test_a_store_is_found_again_on_disk(tmp_path: Path) -> None:
    """Another store on the same folder has the same records, with datetimes to the microsecond."""
    record = {"Name": "Ä/b", "Time": MOMENT, "List": [{"Time": MOMENT, "None": None}], "Number": 1.5}
    store = Store(tmp_path)
    store.put("model", "Ä/b", record)
    store.put("model", "gone", record)
    store.delete("model", "gone")
    store.delete("model", "never")
    again = Store(tmp_path)
    assert again.get("model", "Ä/b") == record
    assert (again.names("model"), again.list("model")) == (("Ä/b",), [record])
    assert again.get("model", "gone") is None


def test_records_are_copies(tmp_path: Path) -> None:
    """Changing a record that was read or written does not change the store."""
    store, record = Store(tmp_path), {"List": [1]}
    store.put("model", "m", record)
    record["List"].append(2)
    got = store.get("model", "m")
    assert got == {"List": [1]}
    got["List"].append(3)
    assert store.get("model", "m") == {"List": [1]}


def test_updates_do_not_lose_each_other(tmp_path: Path) -> None:
    """Two hundred increments from eight threads add up to two hundred."""
    store = Store(tmp_path)
    store.put("counter", "c", {"n": 0})

    def count() -> None:
        for _ in range(25):
            store.update("counter", "c", lambda record: {"n": record["n"] + 1})

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get("counter", "c") == {"n": 200}
    assert store.update("counter", "c", lambda _: None) is None
    assert store.update("counter", "nobody", lambda record: record) is None


def test_a_record_holds_only_what_can_be_kept(tmp_path: Path) -> None:
    """A set could not be read back, and the error names it."""
    with pytest.raises(TypeError, match="holds a set"):
        Store(tmp_path).put("model", "m", {"Set": {1}})


def test_later_calls_come_in_the_order_of_their_time_and_survive_a_fault() -> None:
    """Calls run one after another, the earliest first. One that raises does not prevent the others."""
    clock, called = SystemClock(), list[str]()
    clock.call_later(0.1, called.append, "second")
    clock.call_later(0, int, "no number")
    clock.call_later(0.02, called.append, "first")
    wait_until(lambda: len(called) == 2)
    assert called == ["first", "second"]
    clock.close()
    assert clock.now().tzinfo is UTC


@given(
    values=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 99)), unique_by=lambda value: value[1]),
    size=st.integers(1, 7),
    descending=st.booleans(),
)
def test_pages_hold_every_record_once(values: list[tuple[int, int]], size: int, descending: bool) -> None:
    """Whatever the page size, the pages together are the sorted whole."""
    records = [{"key": list(value)} for value in values]
    found: list[dict[str, Any]] = []
    token: str | None = None
    while True:
        request = {"MaxResults": size} | ({"NextToken": token} if token else {})
        page, token = take_page(records, request, key=lambda record: record["key"], descending=descending)
        assert len(page) <= size
        found += page
        if token is None:
            break
    assert [record["key"] for record in found] == sorted((list(value) for value in values), reverse=descending)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("EnableNetworkIsolation", True),
        ("ResourceConfig.InstanceCount", 5),
        ("AlgorithmSpecification.TrainingImageConfig", {"TrainingRepositoryAccessMode": "Vpc"}),
        ("ExperimentConfig", {"TrialName": "t"}),
    ],
)
def test_what_would_change_a_job_and_is_not_supported_is_refused(path: str, value: Any) -> None:
    """The refusal names its path and value. It is never ignored."""
    request = build_training_request("job", "s3://b/c", "s3://b/out")
    *parents, last = path.split(".")
    place = request
    for parent in parents:
        place = place[parent]
    place[last] = value
    with pytest.raises(Unsupported, match=f"does not support {path} = "):
        refuse_unsupported(request, TRAINING_JOB)


def test_defaults_that_are_spelt_out_are_served() -> None:
    """Clients that spell out a default are not refused."""
    request = build_training_request("job", "s3://b/c", "s3://b/out")
    request |= {"EnableNetworkIsolation": False, "ProfilerConfig": {"DisableProfiler": True}, "ExperimentConfig": {}}
    refuse_unsupported(request, TRAINING_JOB)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"HyperParameters": {}}, "only programs in script mode"),
        ({"AlgorithmSpecification": {"TrainingInputMode": "File"}}, "either TrainingImage or AlgorithmName"),
        ({"OutputDataConfig": {"S3OutputPath": "https://b/c"}}, "writes to s3:// URIs alone"),
        (
            {
                "AlgorithmSpecification": {
                    "TrainingImage": "i",
                    "TrainingInputMode": "File",
                    "MetricDefinitions": [{"Name": "m", "Regex": "("}],
                }
            },
            "the regular expression of metric 'm' cannot be read",
        ),
        ({"EnableManagedSpotTraining": True}, "Invalid MaxWaitTimeInSeconds"),
        ({"StoppingCondition": {"MaxWaitTimeInSeconds": 5}}, "Max wait time must not be set"),
        ({"CheckpointConfig": {"S3Uri": "s3://b/c/", "LocalPath": "/home/me"}}, "below /opt/ml/ alone"),
        ({"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}, "Duplicate tag keys"),
        ({"InputDataConfig": [channel := {"ChannelName": "a", "DataSource": {}}, channel]}, "names must be unique"),
    ],
)
def test_definitions_that_make_no_sense_are_refused(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    """The service model cannot express these rules. No job is created."""
    world = World(tmp_path)
    with pytest.raises(ServiceError, match=text):
        world.call("CreateTrainingJob", **build_training_request("job", "s3://b/c", "s3://b/out") | changes)
    assert world.call("ListTrainingJobs")["TrainingJobSummaries"] == []


def test_the_door_refuses_by_name_what_the_cloud_does_not_have(local: LocalSageMaker) -> None:
    """For an operation of AWS's the refusal lists what there is. Any other operation is unknown."""
    answer = post(local, "CreateLabelingJob", {"LabelingJobName": "x"})
    assert (answer.status_code, answer.json()["__type"]) == (400, "ValidationException")
    assert "does not support SageMaker's operation CreateLabelingJob" in answer.json()["message"]
    assert post(local, "MakeCoffee", {}).json()["__type"] == "UnknownOperationException"
    assert set(OPERATIONS) >= {"CreateTrainingJob", "CreateHyperParameterTuningJob", "AddTags", "ListTags"}


def test_the_door_answers_broken_bodies_as_aws_does(local: LocalSageMaker) -> None:
    """SerializationException, and every answer carries a request id."""
    answer = send_signed("POST", local.url, "sagemaker", b"{", X_Amz_Target="SageMaker.ListTrainingJobs")
    assert (answer.status_code, answer.json()["__type"]) == (400, "SerializationException")
    assert answer.headers["x-amzn-requestid"]
    deep = send_signed("POST", local.url, "sagemaker", b"[" * 100_000, X_Amz_Target="SageMaker.ListTrainingJobs")
    assert (deep.status_code, deep.json()["__type"]) == (400, "SerializationException")
    assert send_signed("PUT", f"{local.url}/endpoints/x/invocations", "sagemaker", b"").status_code == 404


def test_a_program_that_had_ended_when_the_cloud_was_killed_is_not_run_again(local: LocalSageMaker) -> None:
    """Its exit status is in the job's folder, so only the upload is made up for."""
    name = name_job("killed")
    request = build_training_request(name, "s3://nowhere/code", f"s3://{local.bucket}/out")
    job = build_record(request, local.cloud.arn("training-job", name), MOMENT) | {"TrainingStartTime": MOMENT}
    directory = JobDirectory(local.home / "jobs" / name)
    directory.base.mkdir(parents=True)
    directory.prepare(job, 1)
    (directory.model / "model.pth").write_bytes(b"weights")
    directory.exit_mark.write_text(json.dumps({"exit": 0, "stopped": None}))
    report = Recorded()
    local.runner.start(job, report)
    assert wait_until(lambda: report.outcomes) == [Outcome("Completed")]
    assert report.stages == ["Uploading"]
    assert local.unpack(job["ModelArtifacts"]["S3ModelArtifacts"]) == {"model.pth": b"weights"}


def test_lists_are_filtered_by_time(tmp_path: Path) -> None:
    """After and before are exclusive. Without a given order, the oldest job comes first."""
    world, times = World(tmp_path), []
    for number in range(4):
        world.call("CreateTrainingJob", **build_training_request(f"job-{number}", "s3://b/c", "s3://b/out"))
        times.append(world.clock.now())
        world.clock.moment += timedelta(hours=1)
    between = {"CreationTimeAfter": times[0], "CreationTimeBefore": times[3]}
    found = world.call("ListTrainingJobs", **between)["TrainingJobSummaries"]
    assert [job["TrainingJobName"] for job in found] == ["job-1", "job-2"]
    assert world.call("ListTrainingJobs", LastModifiedTimeAfter=times[3])["TrainingJobSummaries"] == []


def test_waiting_longer_than_a_job_takes_costs_as_long_as_it_took(tmp_path: Path) -> None:
    """Billable seconds are counted from the start of training to its end."""
    world = World(tmp_path)
    world.call("CreateTrainingJob", **build_training_request("job", "s3://b/c", "s3://b/out"))
    world.clock.run()
    world.clock.moment += timedelta(days=1)
    assert world.call("DescribeTrainingJob", TrainingJobName="job")["BillableTimeInSeconds"] == 20


class Recorded:
    """A report that keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.outcomes: list[Outcome] = []

    def enter_stage(self, secondary: str, message: str | None = None) -> None:
        self.stages.append(secondary)

    def add_metrics(self, points: Any) -> None:
        raise AssertionError(f"no log was read, and yet there are {points}")

    def finish(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


def post(local: LocalSageMaker, operation: str, request: dict[str, Any]) -> httpx.Response:
    body = json.dumps(request).encode()
    return send_signed("POST", local.url, "sagemaker", body, X_Amz_Target=f"SageMaker.{operation}")
