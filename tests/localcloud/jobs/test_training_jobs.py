"""The contract of training jobs, through boto3 and its waiters, against a real server and real processes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError, WaiterError

from localcloud.sagemaker.training.jobs import begin_training_job
from tests.localcloud.sagemaker_support import LocalSageMaker, name_job, pack, wait_until

PRINT_SCORES = """
for epoch in range(3):
    print(f"epoch={epoch} valid:score={0.5 + epoch / 10}")
"""
SLEEP = """
import time
print("valid:score=0.25")
time.sleep(60)
"""
SHOW_ENVIRONMENT = """
import json, os, sys
seen = {"env": dict(os.environ), "argv": sys.argv, "cwd": os.getcwd()}
json.dump(seen, open(os.environ["SM_MODEL_DIR"] + "/seen", "w"))
"""


def test_a_job_ends_completed_and_is_described_in_full(local: LocalSageMaker) -> None:
    """A successful program leaves statuses, transitions, metrics' last values, times and its model in S3."""
    program = PRINT_SCORES + 'import os; open(os.environ["SM_MODEL_DIR"] + "/model.pth", "w").write("weights")'
    job = local.finish(local.train(program))
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Completed", "Completed")
    assert [step["Status"] for step in job["SecondaryStatusTransitions"]] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    assert [(metric["MetricName"], metric["Value"]) for metric in job["FinalMetricDataList"]] == [("valid:score", 0.7)]
    assert job["CreationTime"] <= job["TrainingStartTime"] <= job["TrainingEndTime"] <= job["LastModifiedTime"]
    assert job["BillableTimeInSeconds"] == job["TrainingTimeInSeconds"] >= 1
    model = f"s3://{local.bucket}/out/{job['TrainingJobName']}/output/model.tar.gz"
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == model
    assert local.unpack(model) == {"model.pth": b"weights"}


def test_every_change_of_state_is_an_event_in_aws_s_shape(local: LocalSageMaker) -> None:
    """Each secondary status sends one event, with epoch milliseconds, explicit nulls, and tags as a map."""
    name = local.train(PRINT_SCORES, Tags=[{"Key": "whippet:run", "Value": "r1"}])
    local.finish(name)
    events = [event for event in local.events if event["detail"].get("TrainingJobName") == name]
    assert [event["detail"]["SecondaryStatus"] for event in events] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    last = events[-1]
    assert (last["source"], last["detail-type"]) == ("aws.sagemaker", "SageMaker Training Job State Change")
    assert last["resources"] == [last["detail"]["TrainingJobArn"]]
    assert last["detail"]["Tags"] == {"whippet:run": "r1"}
    assert last["detail"]["FailureReason"] is None
    assert isinstance(last["detail"]["TrainingEndTime"], int)
    assert json.loads(json.dumps(last)) == last


def test_the_program_sees_sagemaker_s_script_mode(local: LocalSageMaker) -> None:
    """Arguments, working directory, SM_* variables and the request's own Environment are the toolkit's."""
    request = local.request(SHOW_ENVIRONMENT, Environment={"COLOUR": "blue"})
    request["HyperParameters"] |= {"epochs": "3", "rate": "0.1", "name": '"x y"', "sagemaker_job_name": '"me"'}
    data = local.put(f"data/{request['TrainingJobName']}/train/a.txt", b"A").rpartition("/")[0]
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": data}}
    request["InputDataConfig"] = [{"ChannelName": "train", "DataSource": source}]
    local.sagemaker.create_training_job(**request)
    job = local.finish(request["TrainingJobName"])
    seen = json.loads(local.unpack(job["ModelArtifacts"]["S3ModelArtifacts"])["seen"])
    env, base = seen["env"], seen["env"]["SAGEMAKER_BASE_DIR"]
    assert seen["argv"][1:] == ["--epochs", "3", "--name", "x y", "--rate", "0.1"]
    assert seen["cwd"] == f"{base}/code"
    assert json.loads(env["SM_HPS"]) == {"epochs": 3, "rate": 0.1, "name": "x y"}
    assert (env["SM_HP_EPOCHS"], env["SM_HP_NAME"], env["COLOUR"]) == ("3", "x y", "blue")
    assert env["SM_CHANNEL_TRAIN"] == f"{base}/input/data/train"
    assert json.loads(env["SM_CHANNELS"]) == ["train"]
    assert json.loads(env["SM_USER_ARGS"]) == seen["argv"][1:]
    assert json.loads(env["SM_TRAINING_ENV"])["hyperparameters"] == json.loads(env["SM_HPS"])
    assert (env["SM_MODEL_DIR"], env["SM_OUTPUT_DATA_DIR"]) == (f"{base}/model", f"{base}/output/data")
    assert (env["SM_NUM_CPUS"], env["SM_NUM_GPUS"], env["SM_CURRENT_HOST"]) == ("4", "0", "algo-1")
    assert (env["TRAINING_JOB_NAME"], env["TRAINING_JOB_ARN"]) == (job["TrainingJobName"], job["TrainingJobArn"])
    assert "SM_NUM_CPUS=4" in local.log(job["TrainingJobName"])


def test_channels_are_downloaded_by_prefix(local: LocalSageMaker) -> None:
    """Every object under the prefix is there: under its name in the folder, or a single object under its own name."""
    root = f"channels/{name_job()}"
    for key in ("set/a.txt", "set/deep/b.txt", "set-two/c.txt"):
        local.put(f"{root}/{key}", key.encode())
    program = """
import os
for channel in ("folder", "object", "prefix"):
    folder = os.environ["SM_CHANNEL_" + channel.upper()]
    paths = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]
    print(channel, sorted(os.path.relpath(path, folder) for path in paths))
"""
    uris = {"folder": f"{root}/set/", "object": f"{root}/set/a.txt", "prefix": f"{root}/set"}
    channels = [
        {
            "ChannelName": channel,
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{local.bucket}/{key}"}},
        }
        for channel, key in uris.items()
    ]
    name = local.train(program, InputDataConfig=channels)
    local.finish(name)
    log = local.log(name)
    assert "folder ['a.txt', 'deep/b.txt']" in log
    assert "object ['a.txt']" in log
    assert "prefix ['a.txt', 'deep/b.txt', 'set-two/c.txt']" in log


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (
            'import os, sys\nopen(os.environ["SM_OUTPUT_DIR"] + "/failure", "w").write("No images.")\nsys.exit(3)',
            "AlgorithmError: No images., exit code: 3",
        ),
        (
            "raise ValueError('bad data')",
            'AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage "ValueError: bad data", exit code: 1',
        ),
        (
            "import os, signal\nprint('last words')\nos.kill(os.getpid(), signal.SIGKILL)",
            'AlgorithmError: ExecuteUserScriptError:\nExitCode 137\nErrorMessage "last words", exit code: 137',
        ),
    ],
)
def test_a_failing_program_gives_the_failure_reason(local: LocalSageMaker, program: str, reason: str) -> None:
    """The reason is the `failure` file, or the last line of the log, with the exit code; and boto3's waiter fails."""
    name = local.train(program)
    with pytest.raises(WaiterError):
        local.finish(name)
    job = local.describe(name)
    assert (job["TrainingJobStatus"], job["FailureReason"]) == ("Failed", reason)


@pytest.mark.parametrize("bucket", ["training", "no-such-bucket"])
def test_a_job_on_an_empty_prefix_is_refused_at_once(local: LocalSageMaker, bucket: str) -> None:
    """CreateTrainingJob looks into every channel. The text is AWS's, and no job is created."""
    request = local.request(PRINT_SCORES)
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/nowhere/"}}
    request["InputDataConfig"] = [{"ChannelName": "train", "DataSource": source}]
    code, text = refuse(local.sagemaker.create_training_job, **request)
    assert code == "ValidationException"
    assert text == (
        f'No S3 objects found under S3 URL "s3://{bucket}/nowhere/" given in input data source. Please ensure that the '
        "bucket exists in the selected region (us-east-1), that objects exist under that S3 prefix, and that the role "
        f'"{request["RoleArn"]}" has "s3:ListBucket" permissions on bucket "{bucket}".'
    )
    assert local.sagemaker.list_training_jobs(NameContains=request["TrainingJobName"])["TrainingJobSummaries"] == []


@pytest.mark.parametrize("missing", ["channel", "code"])
def test_data_that_is_not_there_fails_the_job(local: LocalSageMaker, missing: str) -> None:
    """A channel that was emptied since the request, or a missing source archive, is a ClientError with the URI."""
    request = local.request(PRINT_SCORES)
    uri = f"s3://{local.bucket}/nowhere/{request['TrainingJobName']}"
    if missing == "code":
        request["HyperParameters"]["sagemaker_submit_directory"] = uri
    else:
        source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}
        request["InputDataConfig"] = [{"ChannelName": "train", "DataSource": source}]
    begin_training_job(local.cloud, request)
    job = wait_until(lambda: ended(local, request["TrainingJobName"]))
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: ")
    assert uri in job["FailureReason"]


def test_a_stopped_program_hears_nothing_and_keeps_what_lay_in_its_model_folder(local: LocalSageMaker) -> None:
    """Process 1 of AWS's image is a shell that forwards no signal: the program is killed, and its model uploaded."""
    program = """
import os, signal, sys, time
def save(*_):
    open(os.environ["SM_MODEL_DIR"] + "/heard", "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
open(os.environ["SM_MODEL_DIR"] + "/model.pth", "w").write("half")
print("ready valid:score=0.4")
time.sleep(60)
"""
    name = local.train(program)
    wait_until(lambda: "FinalMetricDataList" in local.describe(name))
    local.sagemaker.stop_training_job(TrainingJobName=name)
    job = local.finish(name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert "Stopping" in [step["Status"] for step in job["SecondaryStatusTransitions"]]
    assert local.unpack(job["ModelArtifacts"]["S3ModelArtifacts"]) == {"model.pth": b"half"}


def test_a_stopped_program_is_killed_with_its_children(local: LocalSageMaker) -> None:
    """After the grace (1 s here) the whole process group gets SIGKILL."""
    program = """
import os, subprocess, time
child = subprocess.Popen(["sleep", "60"])
print(f"child={child.pid} valid:score=0.4")
time.sleep(60)
"""
    name = local.train(program)
    wait_until(lambda: "child=" in local.log(name) if (local.home / "jobs" / name / "log.txt").exists() else False)
    local.sagemaker.stop_training_job(TrainingJobName=name)
    assert local.finish(name)["TrainingJobStatus"] == "Stopped"
    child = int(local.log(name).partition("child=")[2].split()[0])
    wait_until(lambda: not is_alive(child))


def test_the_time_limit_stops_a_job(local: LocalSageMaker) -> None:
    """MaxRuntimeInSeconds ends in Stopped with MaxRuntimeExceeded, not in Failed."""
    job = local.finish(local.train(SLEEP, StoppingCondition={"MaxRuntimeInSeconds": 1}))
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert job["FinalMetricDataList"][0]["Value"] == 0.25


def test_output_data_and_logs_leave_the_machine(local: LocalSageMaker) -> None:
    """output/data becomes output.tar.gz. Every line is in CloudWatch Logs, in the job's stream."""
    program = (
        'import os; open(os.environ["SM_OUTPUT_DATA_DIR"] + "/table.csv", "w").write("1,2"); print("one\\n\\ntwo")'
    )
    job = local.finish(local.train(program))
    model = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert local.unpack(model.replace("model.tar.gz", "output.tar.gz")) == {"table.csv": b"1,2"}
    logs = local.client("logs")
    group = "/aws/sagemaker/TrainingJobs"
    (stream,) = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job['TrainingJobName']}/algo-1-")[
        "logStreams"
    ]
    events = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
    assert [event["message"] for event in events][-3:] == ["one", " ", "two"]


def test_checkpoints_follow_to_s3_and_come_back(local: LocalSageMaker) -> None:
    """The folder is filled from S3. While the job runs, S3 follows its changes and deletions."""
    prefix = f"checkpoints/{name_job()}"
    local.put(f"{prefix}/old.pt", b"old")
    local.put(f"{prefix}/kept.pt", b"kept")
    program = """
import os, time
folder = os.environ["SAGEMAKER_BASE_DIR"] + "/checkpoints/"
print("found", sorted(os.listdir(folder)))
os.remove(folder + "old.pt")
os.makedirs(folder + "job")
open(folder + "job/metrics.jsonl", "w").write("1")
print("valid:score=0.1")
while not os.path.exists(folder + "job/../../go"):
    time.sleep(0.05)
open(folder + "job/metrics.jsonl", "w").write("1 2")
"""
    name = local.train(program, CheckpointConfig={"S3Uri": f"s3://{local.bucket}/{prefix}/"})
    wait_until(lambda: list_keys(local, prefix) == ["job/metrics.jsonl", "kept.pt"])
    (local.home / "jobs" / name / "go").touch()
    local.finish(name)
    assert "found ['kept.pt', 'old.pt']" in local.log(name)
    assert local.read(f"s3://{local.bucket}/{prefix}/job/metrics.jsonl") == b"1 2"


def test_programs_need_not_be_python(local: LocalSageMaker) -> None:
    """sagemaker_program may be a shell script, as in the toolkit."""
    request = local.request("")
    code = local.put(f"code/{request['TrainingJobName']}.tar.gz", pack({"train.sh": "echo valid:score=0.75 $1 $2"}))
    request["HyperParameters"] = {"sagemaker_program": "train.sh", "sagemaker_submit_directory": code, "a": "b"}
    local.sagemaker.create_training_job(**request)
    assert local.finish(request["TrainingJobName"])["FinalMetricDataList"][0]["Value"] == 0.75
    assert "valid:score=0.75 -a b" in local.log(request["TrainingJobName"])


def test_names_are_taken_once_whatever_their_case(local: LocalSageMaker) -> None:
    """A second job with a name is ResourceInUse with AWS's text. Deleting the ended job frees the name."""
    request = local.request(PRINT_SCORES)
    name = request["TrainingJobName"]
    local.sagemaker.create_training_job(**request)
    code, text = refuse(local.sagemaker.create_training_job, **request | {"TrainingJobName": name.upper()})
    assert code == "ResourceInUse"
    assert text.startswith("Training job names must be unique within an AWS account and region")
    local.finish(name)
    local.sagemaker.delete_training_job(TrainingJobName=name)
    assert refuse(local.sagemaker.describe_training_job, TrainingJobName=name) == (
        "ValidationException",
        "Requested resource not found.",
    )
    local.sagemaker.create_training_job(**request)
    local.finish(name)


def test_an_ended_job_cannot_be_stopped(local: LocalSageMaker) -> None:
    """StopTrainingJob names the job's status. A running job cannot be deleted."""
    name = local.train(SLEEP)
    assert refuse(local.sagemaker.delete_training_job, TrainingJobName=name)[0] == "ResourceInUse"
    local.sagemaker.stop_training_job(TrainingJobName=name)
    local.finish(name)
    code, text = refuse(local.sagemaker.stop_training_job, TrainingJobName=name)
    assert code == "ValidationException"
    assert text == "The request was rejected because the training job is in status Stopped."


def test_lists_are_filtered_sorted_and_paged(local: LocalSageMaker) -> None:
    """boto3's paginator yields every job once, filtered by name and status."""
    word = name_job("paged")
    names = [local.train(PRINT_SCORES, f"{word}-{number}") for number in range(5)]
    for name in names:
        local.finish(name)
    pages = local.sagemaker.get_paginator("list_training_jobs").paginate(
        NameContains=word.upper(), StatusEquals="Completed", SortBy="Name", SortOrder="Descending", MaxResults=2
    )
    found = [[job["TrainingJobName"] for job in page["TrainingJobSummaries"]] for page in pages]
    assert found == [names[:2:-1], [names[2], names[1]], [names[0]]]
    assert refuse(local.sagemaker.list_training_jobs, NextToken="nonsense")[0] == "ValidationException"


def test_tags_are_added_listed_and_taken_away(local: LocalSageMaker) -> None:
    """A job's tags are found by its ARN. A later value of a key replaces the earlier one."""
    name = local.train(PRINT_SCORES, Tags=[{"Key": "a", "Value": "1"}])
    arn = local.describe(name)["TrainingJobArn"]
    local.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": "2"}, {"Key": "b", "Value": ""}])
    assert local.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": ""}]
    local.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["a", "c"])
    assert local.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": ""}]
    assert refuse(local.sagemaker.list_tags, ResourceArn=f"{arn}-not")[0] == "ValidationException"


def test_two_hundred_concurrent_describes_lose_none(local: LocalSageMaker) -> None:
    """All 200 simultaneous describes are answered, with the same answer."""
    name = local.train(PRINT_SCORES)
    local.finish(name)
    with ThreadPoolExecutor(50) as pool:
        statuses = list(pool.map(lambda _: local.describe(name)["TrainingJobStatus"], range(200)))
    assert statuses == ["Completed"] * 200


def test_jobs_wait_for_their_cores(local: LocalSageMaker) -> None:
    """A waiting job stays Starting and says why. A stop ends it there."""
    first = local.train(SLEEP)
    second = local.train(PRINT_SCORES)
    message = wait_until(lambda: waiting_message(local.describe(second)))
    assert message == "Waiting for 4 of this machine's 4 core(s)"
    local.sagemaker.stop_training_job(TrainingJobName=second)
    assert local.finish(second)["TrainingJobStatus"] == "Stopped"
    local.sagemaker.stop_training_job(TrainingJobName=first)
    local.finish(first)


def ended(local: LocalSageMaker, name: str) -> dict[str, Any] | None:
    job = local.describe(name)
    return job if job["TrainingJobStatus"] in ("Completed", "Failed", "Stopped") else None


def waiting_message(job: dict[str, Any]) -> str | None:
    message: str = job["SecondaryStatusTransitions"][-1]["StatusMessage"]
    return message if message.startswith("Waiting") else None


def list_keys(local: LocalSageMaker, prefix: str) -> list[str]:
    found = local.s3.list_objects_v2(Bucket=local.bucket, Prefix=f"{prefix}/").get("Contents", [])
    return [item["Key"].removeprefix(f"{prefix}/") for item in found]


def is_alive(pid: int) -> bool:
    """Return whether the process runs. A zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def refuse(call: Any, **request: Any) -> tuple[str, str]:
    """Return the code and the text with which the call is refused."""
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]
