"""Tests of jobs on several instances: each is a process group of this machine, with its own /opt/ml."""

from __future__ import annotations

import time
from typing import Any

import botocore.exceptions
import pytest

from tests.localcloud.sagemaker_support import LocalSageMaker, name_job, pack, wait_until

MACHINES = {"InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 10}
TWO = {"ResourceConfig": {**MACHINES, "InstanceCount": 2}}
TORCHRUN = {"sagemaker_torch_distributed_enabled": "true"}


def read_log(local: LocalSageMaker, name: str, host: str) -> str:
    return (local.home / "jobs" / name / "hosts" / host / "log.txt").read_text()


def fail(local: LocalSageMaker, name: str) -> dict[str, Any]:
    """Wait for a job to fail, and describe it."""
    wait_until(lambda: local.describe(name)["TrainingJobStatus"] in ("Failed", "Completed", "Stopped"))
    job = local.describe(name)
    assert job["TrainingJobStatus"] == "Failed"
    return job


def test_every_instance_runs_the_program(local: LocalSageMaker) -> None:
    """Both know both hosts and which they are, read the channels, and have a share of the cores and a log stream.

    What both leave in their model folders is in one archive.
    """
    program = """
import json, os
host = os.environ["SM_CURRENT_HOST"]
resources = json.load(open(os.environ["SM_INPUT_CONFIG_DIR"] + "/resourceconfig.json"))
assert resources["hosts"] == json.loads(os.environ["SM_HOSTS"]) == ["algo-1", "algo-2"]
assert resources["current_host"] == host
print(f"valid:score=0.{host[-1]} {os.listdir(os.environ['SM_CHANNEL_TRAIN'])} {os.environ['SM_NUM_CPUS']} cores")
open(os.environ["SM_MODEL_DIR"] + "/" + host, "w").write(host)
open(os.environ["SAGEMAKER_BASE_DIR"] + "/checkpoints/" + host, "w").write("1")
"""
    name, data = name_job(), local.put("hosts/train/a.txt", b"A").rpartition("/")[0]
    channel = {"ChannelName": "train", "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": data}}}
    kept = {"S3Uri": f"s3://{local.bucket}/kept/{name}/", "LocalPath": "/opt/ml/checkpoints"}
    local.train(program, name, InputDataConfig=[channel], CheckpointConfig=kept, **TWO)
    job = local.finish(name)
    assert job["TrainingJobStatus"] == "Completed", job
    assert set(local.unpack(job["ModelArtifacts"]["S3ModelArtifacts"])) == {"algo-1", "algo-2"}
    for log, score in ((local.log(name), 1), (read_log(local, name, "algo-2"), 2)):
        assert f"valid:score=0.{score} ['a.txt'] 2 cores" in log
    found = local.s3.list_objects_v2(Bucket=local.bucket, Prefix=f"kept/{name}/")["Contents"]
    assert [item["Key"].rpartition("/")[2] for item in found] == ["algo-1", "algo-2"]
    streams = local.client("logs").describe_log_streams(logGroupName="/aws/sagemaker/TrainingJobs")["logStreams"]
    own = sorted(each["logStreamName"] for each in streams if each["logStreamName"].startswith(name))
    assert [stream.removeprefix(f"{name}/").rpartition("-")[0] for stream in own] == ["algo-1", "algo-2"]


def test_an_instance_that_fails_ends_the_job_with_its_reason(local: LocalSageMaker) -> None:
    """The other one, which would run on, is ended."""
    program = """
import os, sys, time
if os.environ["SM_CURRENT_HOST"] == "algo-1":
    time.sleep(600)
open(os.environ["SM_OUTPUT_DIR"] + "/failure", "w").write("The second instance has no images.")
sys.exit(3)
"""
    began = time.monotonic()
    job = fail(local, local.train(program, **TWO))
    assert job["FailureReason"] == "AlgorithmError: The second instance has no images., exit code: 3"
    assert time.monotonic() - began < 10


def test_more_instances_than_this_machine_plays_are_refused(local: LocalSageMaker) -> None:
    """By name, with what it takes."""
    with pytest.raises(botocore.exceptions.ClientError, match=r"ResourceConfig.InstanceCount = 5; it takes 1 or 2"):
        local.train("", ResourceConfig={**MACHINES, "InstanceCount": 5})


def test_torchrun_takes_only_python(local: LocalSageMaker) -> None:
    """As in AWS's toolkit, whose words these are."""
    request = local.request("")
    request["HyperParameters"] |= {**TORCHRUN, "sagemaker_program": '"train.sh"'}
    code = request["HyperParameters"]["sagemaker_submit_directory"].strip('"')
    local.put(code.partition(f"{local.bucket}/")[2], pack({"train.sh": "true"}))
    local.sagemaker.create_training_job(**request)
    job = fail(local, request["TrainingJobName"])
    assert "Unsupported entry point type for torch_distributed" in job["FailureReason"]
