"""Test the main job: a zip goes in, and a model answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.local_cloud import LocalCloud, wait_until
from tests.support.pictures import COLOURS, draw_test_picture


def read_json(cloud: LocalCloud, key: str) -> dict[str, Any]:
    return dict(json.loads(cloud.s3.get_object(Bucket=cloud.bucket, Key=key)["Body"].read()))


@pytest.mark.parametrize("colour", sorted(COLOURS))
def test_the_route_answers_with_the_class(cloud: LocalCloud, deployed_run: dict[str, Any], colour: str) -> None:
    """The run's model returns the class of an image that was in no split, best first."""
    response = cloud.api.post(
        "/models/colours/predict?top=2", content=draw_test_picture(colour), headers={"Content-Type": "image/png"}
    )
    assert response.status_code == 200, response.text
    answer = response.json()
    predictions = answer["results"][0]["predictions"]
    assert predictions[0]["class"] == colour
    assert len(predictions) == 2
    assert predictions[0]["probability"] >= predictions[1]["probability"]
    assert answer["run_id"] == deployed_run["run_id"]
    assert answer["milliseconds"] > 0


def test_the_run_folder_tells_the_story(cloud: LocalCloud, deployed_run: dict[str, Any]) -> None:
    """Every file that the architecture names exists, and they agree."""
    prefix = f"runs/{deployed_run['run_id']}/"
    run, dataset, tuning, decision, result = (
        read_json(cloud, f"{prefix}{name}.json") for name in ("run", "dataset", "tuning", "decision", "result")
    )
    assert run["run_id"] == deployed_run["run_id"]
    assert sorted(dataset["classes"]) == sorted(COLOURS)
    assert len(tuning["trials"]) == 2
    assert result["status"] == "deployed"
    shipped = decision["training_job_name"]
    evaluation = read_json(cloud, f"{prefix}jobs/{shipped}/evaluation.json")
    assert evaluation["test"]["images"] == 24
    assert result["metrics"]["test"]["accuracy"] == pytest.approx(evaluation["test"]["accuracy"])


def test_the_trials_were_real(cloud: LocalCloud, deployed_run: dict[str, Any]) -> None:
    """Each trial is a training job with its own hyperparameters, final metric, artifact and log."""
    name = deployed_run["run_id"]
    trials = cloud.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    logs = cloud.client("logs")
    rates = set()
    for trial in trials["TrainingJobSummaries"]:
        job = cloud.sagemaker.describe_training_job(TrainingJobName=trial["TrainingJobName"])
        assert job["TrainingJobStatus"] == "Completed"
        assert "valid:score" in {metric["MetricName"] for metric in job["FinalMetricDataList"]}
        bucket, key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").split("/", 1)
        assert cloud.s3.head_object(Bucket=bucket, Key=key)["ContentLength"] > 1_000_000
        streams = logs.describe_log_streams(
            logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=trial["TrainingJobName"]
        )
        assert streams["logStreams"]
        rates.add(trial["TunedHyperParameters"]["learning_rate"])
    assert len(rates) == 2


def test_a_rejected_dataset_costs_nothing(cloud: LocalCloud) -> None:
    """A file that is not a zip ends its run before anything is launched, with a readable reason."""
    cloud.upload("broken.zip", b"this is no archive")
    run = cloud.wait_for_status("broken", "rejected", "failed", "tuning")
    assert run["status"] == "rejected"
    assert "zip" in run["reason"]
    assert (
        cloud.sagemaker.list_hyper_parameter_tuning_jobs(NameContains=run["run_id"])["HyperParameterTuningJobSummaries"]
        == []
    )


def test_predictions_leave_the_metrics_that_the_alarms_watch(cloud: LocalCloud, deployed_run: dict[str, Any]) -> None:
    """SageMaker's metrics of the endpoint are in CloudWatch, under the variant's name by which the alarms find them."""
    cloud.api.post("/models/colours/predict", content=draw_test_picture("red"), headers={"Content-Type": "image/png"})
    cloudwatch = cloud.client("cloudwatch")
    variant = {"Name": "VariantName", "Value": "whippet-local"}

    def look() -> set[str] | None:
        found = cloudwatch.list_metrics(Namespace="AWS/SageMaker")["Metrics"]
        names = {metric["MetricName"] for metric in found if variant in metric["Dimensions"]}
        return names or None

    names = wait_until(look, within=20, what=f"metrics of {deployed_run['run_id']} are in CloudWatch")
    assert {"Invocations", "Invocation5XXErrors", "ModelLatency"} <= names
