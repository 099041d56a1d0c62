"""Test AWS's own Debugger, enabled by the setting, and a rule that ends the training: from the zip to the report."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from smdebug.profiler.system_metrics_reader import LocalSystemMetricsReader
from smdebug.trials import create_trial
from torchvision.models import resnet18

from chalicelib.requests.debugger import RULES
from localcloud.common.transfers import download_prefix
from tests.end_to_end.conftest import upload_small_dataset
from tests.support.local_cloud import LocalCloud, run_local_cloud, wait_until

IMAGE = "503895931360.dkr.ecr.us-east-1.amazonaws.com/sagemaker-debugger-rules:latest"
BUCKET = "whippet-local-123456789012-us-east-1"
ENDED = ("deployed", "failed", "rejected", "stopped", "declined")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """Run a local cloud whose app asks for AWS's hook, profiler and rules."""
    home = tmp_path_factory.mktemp("full") / "state"
    with run_local_cloud(home, DEBUGGER_MODE="full", DEBUGGER_RULES_IMAGE=IMAGE) as running:
        yield running


@pytest.fixture(scope="module")
def monitoring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """Run a local cloud whose app asks for AWS's profiler and report, with pretrained weights in its bucket."""
    home = tmp_path_factory.mktemp("monitoring") / "state"
    asked = {"DEBUGGER_MODE": "monitoring", "DEBUGGER_RULES_IMAGE": IMAGE, "WEIGHTS_URI": f"s3://{BUCKET}/weights/"}
    with run_local_cloud(home, **asked) as running:
        assert running.bucket == BUCKET
        weights = io.BytesIO()
        torch.save(resnet18(num_classes=1000).state_dict(), weights)
        running.s3.put_object(Bucket=BUCKET, Key="weights/resnet18.pth", Body=weights.getvalue())
        yield running


def finish_run(cloud: LocalCloud, name: str, **recipe: Any) -> dict[str, Any]:
    """Upload a small dataset and wait until its run is deployed. Returns its training's description."""
    upload_small_dataset(cloud, name, trials=1, parallel_trials=1, **recipe)
    run = cloud.wait_for_status(name, *ENDED, within=600)
    assert run["status"] == "deployed", run
    job: dict[str, Any] = cloud.sagemaker.describe_training_job(TrainingJobName=f"{run['run_id']}-train")
    assert job["TrainingJobStatus"] == "Completed", job
    return job | {"run_id": run["run_id"]}


def read(cloud: LocalCloud, job: dict[str, Any], name: str) -> dict[str, Any]:
    key = f"runs/{job['run_id']}/jobs/{job['TrainingJobName']}/{name}"
    return dict(json.loads(cloud.s3.get_object(Bucket=cloud.bucket, Key=key)["Body"].read()))


def read_report(cloud: LocalCloud, job: dict[str, Any]) -> str:
    """Return the report, which is written just after the run's status."""
    look = lambda: cloud.api.get(f"/runs/{job['run_id']}").json()["links"]["report"]  # noqa: E731
    answer = httpx.get(wait_until(look, within=60, what="the report is written", every=1))
    assert answer.headers["content-type"].startswith("text/html")
    return answer.text


def test_full_goes_from_the_request_to_the_report(full: LocalCloud, tmp_path: Path) -> None:
    """SageMaker's hook serves AWS's rules and ours: tensors and metrics in S3, statuses in Describe, a report."""
    job = finish_run(full, "watched", epochs=2)
    ours = {rule["name"]: rule["status"] for rule in read(full, job, "rules.json")["rules"]}
    told = {each["RuleConfigurationName"]: each for each in job["DebugRuleEvaluationStatuses"]}
    assert set(told) == set(RULES) < set(ours)
    for name, each in told.items():
        assert each["RuleEvaluationStatus"] == ours[name].replace("NotJudged", "NoIssuesFound")
        assert each["StatusDetails"].startswith("Not judged: ") == (ours[name] == "NotJudged")
    assert "Error" not in ours.values(), told
    [profiled] = job["ProfilerRuleEvaluationStatuses"]
    assert profiled["RuleEvaluationStatus"] in ("NoIssuesFound", "IssuesFound")
    report = read_report(full, job)
    assert all(name in report for name in RULES)

    tensors = f"{job['DebugHookConfig']['S3OutputPath']}{job['TrainingJobName']}/debug-output/"
    download_prefix(full.s3, tensors, tmp_path / "tensors")
    trial = create_trial(str(tmp_path / "tensors"))
    assert trial.tensor_names(collection="losses")
    [weight] = [name for name in trial.tensor_names(collection="weights") if name.endswith("_conv1.weight")]
    assert trial.tensor(weight).value(trial.steps()[0]).ndim == 4
    assert trial.loaded_all_steps
    assert read_samples(full, job, tmp_path / "samples")


@pytest.fixture(scope="module")
def job(monitoring: LocalCloud) -> dict[str, Any]:
    """Return a training from pretrained weights that AWS's profiler watched."""
    ranges = {"batch_size": [16], "fine_tune": ["last_block"]}
    return finish_run(monitoring, "sampled", pretrained="imagenet", ranges=ranges)


def test_monitoring_samples_and_judges_and_leaves_the_hook_alone(
    monitoring: LocalCloud, job: dict[str, Any], tmp_path: Path
) -> None:
    """SageMaker's samples are in S3 and its ProfilerReport has a status; our own tensors are in the job's folder."""
    assert not {"DebugHookConfig", "DebugRuleEvaluationStatuses"} & set(job)
    [report] = job["ProfilerRuleEvaluationStatuses"]
    assert report["RuleConfigurationName"] == "ProfilerReport"
    assert "rules triggered" in report["StatusDetails"]
    assert read_samples(monitoring, job, tmp_path)
    prefix = f"runs/{job['run_id']}/jobs/{job['TrainingJobName']}/debug/"
    assert monitoring.s3.list_objects_v2(Bucket=monitoring.bucket, Prefix=prefix)["KeyCount"] > 0


def test_a_rule_that_may_end_the_training_does(monitoring: LocalCloud) -> None:
    """The recipe alone asks for it. The best epoch is deployed; rule-stop.json and the report name the rule and why.

    The rule is one that is certain: a learning rate that wrecks the weights may end the training as diverged instead.
    """
    recipe = {"epochs": 5, "ranges": {"batch_size": [4]}, "stop_on_rules": ["ExplodingTensor", "TinyBatch"]}
    job = finish_run(monitoring, "ended", **recipe)
    stop = read(monitoring, job, "rule-stop.json")
    assert (stop["rule"], stop["step"]) == ("TinyBatch", 12)  # the steps of the first epoch
    evaluation = read(monitoring, job, "evaluation.json")
    assert any(stop["reason"] in warning for warning in evaluation["warnings"])
    report = read_report(monitoring, job)
    assert f"{stop['rule']} ended the training" in report


def test_weights_come_from_their_channel(monitoring: LocalCloud, job: dict[str, Any]) -> None:
    """If the stack names their place, every job has a channel `weights`: log, manifest and report say so."""
    assert {channel["ChannelName"] for channel in job["InputDataConfig"]} >= {"dataset", "weights"}
    log = (monitoring.home / "jobs" / job["TrainingJobName"] / "log.txt").read_text()
    assert "the head was fitted on the features of the frozen backbone" in log
    assert "FROM SCRATCH" not in log + read_report(monitoring, job)
    bucket, key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").split("/", 1)
    archive = io.BytesIO(monitoring.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    with tarfile.open(fileobj=archive) as opened:
        manifest = json.load(opened.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert manifest["pretrained"] == "imagenet"
    assert read(monitoring, job, "baseline.json")["kind"] == "default_hyperparameters"


def read_samples(cloud: LocalCloud, job: dict[str, Any], folder: Path) -> list[Any]:
    """Return what smdebug's reader finds about the machine in the profiler's folder in S3."""
    uri = f"{job['ProfilerConfig']['S3OutputPath']}{job['TrainingJobName']}/profiler-output/"
    download_prefix(cloud.s3, uri, folder)
    return list(LocalSystemMetricsReader(str(folder)).get_events(0, time.time() * 1e6))
