"""The pipeline works whether or not tuning appends a trial's name to the prefix of its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

from tests.end_to_end.conftest import upload_small_dataset
from tests.support.local_cloud import run_local_cloud

PATHS = ("", "/jobs", "/curves")


def test_a_run_whose_trials_have_prefixes_of_their_own_is_deployed(tmp_path: Path) -> None:
    """Its evaluation, its trials and its report are found as in the shared prefix, which every other test uses."""
    home = tmp_path / "state"
    home.mkdir()
    (home / "faults.json").write_text(json.dumps({"tuning_checkpoints": "appended"}))
    with run_local_cloud(home) as cloud:
        upload_small_dataset(cloud, "appended")
        run = cloud.wait_for_status("appended", "deployed", "failed", "rejected", "stopped", "declined")
        assert run["status"] == "deployed", run
        trials = cloud.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=run["run_id"]
        )["TrainingJobSummaries"]
        for trial in trials:
            name = trial["TrainingJobName"]
            config = cloud.sagemaker.describe_training_job(TrainingJobName=name)["CheckpointConfig"]
            assert config["S3Uri"] == f"s3://{cloud.bucket}/runs/{run['run_id']}/jobs/{name}"
        found = {path: cloud.api.get(f"/runs/{run['run_id']}{path}").raise_for_status().json() for path in PATHS}
        assert found[""]["metrics"]["test"]["accuracy"] > 0, found[""]
        assert found["/jobs"]["evaluation"]["test"]["images"] == 24
        curves = {job["name"]: len(job["epochs"]) for job in found["/curves"]["jobs"]}
        assert {curves.get(trial["TrainingJobName"]) for trial in trials} == {1}, curves
