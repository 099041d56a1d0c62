"""Test the main job: a zip goes in, and a model answers; and a worse one after it does not by itself."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections import Counter
from typing import Any

import pytest

from localcloud.cli.digits import find_source, list_pictures
from tests.end_to_end.conftest import ENDED
from tests.end_to_end.test_events import sweep
from tests.support.local_cloud import LocalCloud, wait_until
from tests.support.pictures import COLOURS, draw_test_picture

NAME, DIGITS = "promoted", "01"
MOST = {"train": 40, "valid": 12, "test": 35}  # of each digit
RECIPE: dict[str, Any] = {
    "image_size": 32,
    "pretrained": "none",
    "epochs": 8,
    "trials": 1,
    "parallel_trials": 1,
    "ranges": {"batch_size": [16], "learning_rate": {"values": [1.0]}, "weight_decay": {"values": [0.01]}},
}


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


def build_zip(*, is_shuffled: bool) -> bytes:
    """Pack a few digits; shuffled, each image lies in the folder of a class that was drawn."""
    counts: Counter[tuple[str, str]] = Counter()
    dice, buffer = random.Random(5), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, picture in list_pictures(find_source()):
            split, digit, file = path.split("/")
            counts[split, digit] += 1
            if digit in DIGITS and counts[split, digit] <= MOST[split]:
                told = dice.choice(DIGITS) if is_shuffled else digit
                archive.writestr(f"{split}/{told}/{digit}-{file}", picture)
    return buffer.getvalue()


def upload(cloud: LocalCloud, *, is_shuffled: bool) -> dict[str, Any]:
    """Upload a version, and return its run once it has ended."""
    before = len(cloud.list_runs(NAME))
    cloud.upload(f"{NAME}.zip", build_zip(is_shuffled=is_shuffled))
    wait_until(lambda: len(cloud.list_runs(NAME)) > before or None, within=60, what="the run is there")
    run = cloud.wait_for_status(NAME, *ENDED)
    return dict(cloud.api.get(f"/runs/{run['run_id']}").raise_for_status().json())


def test_a_model_of_shuffled_labels_goes_live_only_if_a_person_wants_it(cloud: LocalCloud) -> None:
    """The live model stays, and the run says why; an approval deploys the model all the same."""
    cloud.upload(f"{NAME}.json", json.dumps(RECIPE).encode())
    good = upload(cloud, is_shuffled=False)
    assert good["status"] == "deployed", good["reason"]
    assert good["decision"]["promotion"]["floor"]["beaten"]

    bad = upload(cloud, is_shuffled=True)
    assert bad["status"] == "declined", bad["reason"]
    assert bad["decision"]["promotion"]["compared_with"] == good["run_id"]
    by_name = {test["name"]: test for test in bad["decision"]["promotion"]["tests"]}
    assert by_name["live"]["interval"][1] < -0.01
    assert "labels changed between the two versions" in bad["reason"]
    assert cloud.api.get(f"/models/{NAME}").json()["run_id"] == good["run_id"]

    path = f"/runs/{bad['run_id']}/approve"
    assert cloud.api.post(path).raise_for_status().json()["status"] == "deploying"
    sweep(cloud)
    cloud.wait_for_status(NAME, "deployed", within=120)
    assert cloud.api.get(f"/models/{NAME}").json()["run_id"] == bad["run_id"]
    assert cloud.api.post(path).status_code == 202
