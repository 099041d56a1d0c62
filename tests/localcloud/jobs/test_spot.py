"""Managed spot training with real processes: interruptions, waiting for capacity, and our own training's resume."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.localcloud.sagemaker_support import LocalSageMaker, local_sagemaker, name_job, pack, wait_until
from tests.training.tiny import QUICK, shapes_zip

TRAINING = Path(__file__).resolve().parents[3] / "training"
SPOT = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 900},
}
RESUMING = """
import os, sys, time
base = os.environ["SAGEMAKER_BASE_DIR"]
kept, left = base + "/checkpoints/epoch", base + "/model/left-behind"
if os.path.exists(kept):
    print("resumed", open(kept).read(), os.path.exists(left), "valid:score=0.9")
    sys.exit(0)
os.makedirs(os.path.dirname(kept), exist_ok=True)
with open(kept, "w") as file:
    file.write("seven")
open(left, "w").close()
print("first life", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSageMaker]:
    """A cloud whose jobs are forked from a process that has imported torch."""
    with local_sagemaker(tmp_path_factory.mktemp("spot"), cores=1, preload=("torch", "torchvision")) as running:
        yield running


@pytest.fixture(autouse=True)
def _mend(local: LocalSageMaker) -> Iterator[None]:
    yield
    local.break_it({})


def checkpoints(local: LocalSageMaker, name: str) -> dict[str, Any]:
    return {"CheckpointConfig": {"S3Uri": f"s3://{local.bucket}/checkpoints/{name}/"}}


def await_line(local: LocalSageMaker, name: str, text: str) -> None:
    """Wait until the job's log, which includes its earlier lives, contains a text."""
    path = local.home / "jobs" / name / "log.txt"
    wait_until(lambda: path.exists() and text in path.read_text(), 60)


def list_stages(local: LocalSageMaker, name: str) -> list[str]:
    return [stage["Status"] for stage in local.describe(name)["SecondaryStatusTransitions"]]


def test_an_interrupted_job_begins_again_on_another_instance_with_its_checkpoints(local: LocalSageMaker) -> None:
    """It is Interrupted, and a new process begins in an emptied directory. Neither the first one's exit code nor what
    it left beside the checkpoints counts. The lost seconds are not billed."""
    name = name_job("spot")
    local.train(RESUMING, name, **SPOT, **checkpoints(local, name))
    await_line(local, name, "first life")
    local.break_it({"interruptions": [{"job": name}]})
    job = local.finish(name)
    assert job["TrainingJobStatus"] == "Completed"
    assert "resumed seven False" in local.log(name)
    life = ["Starting", "Downloading", "Training"]
    assert list_stages(local, name) == [*life, "Interrupted", *life, "Uploading", "Completed"]
    assert job["BillableTimeInSeconds"] <= job["TrainingTimeInSeconds"]
    events = [event["detail"] for event in local.events if event["detail"].get("TrainingJobName") == name]
    assert "Interrupted" in [detail["SecondaryStatus"] for detail in events]


def test_a_job_on_demand_is_never_interrupted(local: LocalSageMaker) -> None:
    """Only spot instances are taken back."""
    local.break_it({"interruptions": [{"job": "*", "times": 9}]})
    name = local.train("import time; time.sleep(0.6)")
    local.finish(name)
    assert "Interrupted" not in list_stages(local, name)


def test_a_spot_job_waits_for_capacity_and_another_fails_without(local: LocalSageMaker) -> None:
    """The spot job is Starting until there is an instance. The other job is Failed with AWS's CapacityError."""
    local.break_it({"no_capacity": ["ml.m5.xlarge"]})
    other = local.train("print('here')")
    failed = wait_until(lambda: (job := local.describe(other))["TrainingJobStatus"] == "Failed" and job)
    assert failed["FailureReason"].startswith("CapacityError: Unable to provision requested ML compute")
    spot = local.train("print('here')", **SPOT)
    waits = "Insufficient capacity: waiting for a managed spot instance"
    wait_until(lambda: local.describe(spot)["SecondaryStatusTransitions"][-1]["StatusMessage"] == waits)
    local.break_it({})
    assert local.finish(spot)["TrainingJobStatus"] == "Completed"


def test_a_spot_job_waits_no_longer_than_it_may(local: LocalSageMaker) -> None:
    """After that it is Stopped with MaxWaitTimeExceeded. It never ran, so nothing is billed."""
    local.break_it({"no_spot_capacity": ["ml.m5.xlarge"]})
    limits = {"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 1}
    job = local.finish(local.train("print('here')", **SPOT | {"StoppingCondition": limits}))
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxWaitTimeExceeded")
    assert "BillableTimeInSeconds" not in job


def await_epoch(local: LocalSageMaker, name: str, epoch: int) -> None:
    """Wait until our own training has ended an epoch; its log leaves out epochs that follow each other too fast."""
    path = local.home / "jobs" / name / "checkpoints" / name / "metrics.jsonl"
    wait_until(lambda: path.exists() and f'"epoch": {epoch},' in path.read_text(), 60)


def train_ours(local: LocalSageMaker, name: str, **hyperparameters: str) -> None:
    """Begin our own training program as a spot job."""
    files = {path.relative_to(TRAINING).as_posix(): path.read_text() for path in TRAINING.rglob("*.py")}
    inference = {f"inference/{path.name}": path.read_text() for path in (TRAINING.parent / "inference").glob("*.py")}
    request = local.request("", name, **SPOT, **checkpoints(local, name))
    code = local.put(f"code/{name}.tar.gz", pack(files | inference))
    data = local.put(f"data/{name}/dataset.zip", shapes_zip({"train": 24, "valid": 6, "test": 6}))
    given = QUICK | {"epochs": "5", "batch_size": "8"} | hyperparameters
    source = {"S3DataType": "S3Prefix", "S3Uri": data.rpartition("/")[0] + "/"}
    request |= {
        "HyperParameters": given | {"sagemaker_program": "train.py", "sagemaker_submit_directory": code},
        "InputDataConfig": [{"ChannelName": "dataset", "DataSource": {"S3DataSource": source}}],
    }
    local.sagemaker.create_training_job(**request)


def read_outcome(local: LocalSageMaker, name: str) -> tuple[list[Any], Any, bytes]:
    """Return what the training produced, without times and its name: its epochs, its evaluation and its weights."""
    folder = f"s3://{local.bucket}/checkpoints/{name}/{name}"
    records = [json.loads(line) for line in local.read(f"{folder}/metrics.jsonl").splitlines()]
    epochs = [(record["epoch"], record["train"], record["valid"]) for record in records if "epoch" in record]
    evaluation = json.loads(local.read(f"{folder}/evaluation.json"))
    kept = {key: value for key, value in evaluation.items() if key != "seconds"}
    kept["shipped"] = {key: value for key, value in evaluation["shipped"].items() if key != "job"}
    archive = local.read(local.describe(name)["ModelArtifacts"]["S3ModelArtifacts"])
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        weights = opened.extractfile("model.pth")
        assert weights is not None
        return epochs, kept, weights.read()


def test_our_training_interrupted_half_way_ends_as_if_it_never_was(local: LocalSageMaker) -> None:
    """After two interruptions within epochs, the epochs, metrics and weights are the same, each epoch once."""
    whole, broken = name_job("whole"), name_job("broken")
    train_ours(local, whole)
    assert local.finish(whole, 120)["TrainingJobStatus"] == "Completed", local.log(whole)
    train_ours(local, broken)
    for times, epoch in ((1, 1), (2, 3)):
        await_epoch(local, broken, epoch)
        local.break_it({"interruptions": [{"job": broken, "times": times}]})
    job = local.finish(broken, 120)
    assert job["TrainingJobStatus"] == "Completed", local.log(broken)
    assert list_stages(local, broken).count("Interrupted") == 2
    assert "resuming after epoch" in local.log(broken)
    (epochs, evaluation, weights), expected = read_outcome(local, broken), read_outcome(local, whole)
    assert [epoch[0] for epoch in epochs] == [1, 2, 3, 4, 5]
    assert (epochs, evaluation) == expected[:2]
    assert weights == expected[2]
    final = {metric["MetricName"]: metric["Value"] for metric in job["FinalMetricDataList"]}
    assert final == {m["MetricName"]: m["Value"] for m in local.describe(whole)["FinalMetricDataList"]}
