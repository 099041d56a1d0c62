"""Test that state is on disk: a killed cloud goes on where it was."""

from __future__ import annotations

from pathlib import Path

import psutil

from tests.end_to_end.conftest import upload_small_dataset
from tests.support.local_cloud import LocalCloud, run_local_cloud, wait_until
from tests.support.pictures import draw_test_picture


def ask(cloud: LocalCloud) -> int:
    response = cloud.api.post(
        "/models/kept/predict", content=draw_test_picture("red"), headers={"Content-Type": "image/png"}
    )
    return response.status_code


def test_a_killed_cloud_serves_its_models_and_finishes_its_runs(tmp_path: Path) -> None:
    """After kill -9 no process is left. Started again, the model answers without training, and the run goes on."""
    with run_local_cloud(tmp_path / "state") as cloud:
        upload_small_dataset(cloud, "kept", trials=1, parallel_trials=1)
        assert cloud.wait_for_status("kept", "deployed", "failed")["status"] == "deployed"
        upload_small_dataset(cloud, "interrupted", epochs=3)
        run = cloud.wait_for_status("interrupted", "tuning")
        jobs = cloud.sagemaker.list_training_jobs()["TrainingJobSummaries"]
        processes = cloud.list_processes()
        cloud.kill()
        _gone, alive = psutil.wait_procs(processes, timeout=15)
        assert not alive, [process.cmdline() for process in alive]

        cloud.start()
        wait_until(lambda: True if ask(cloud) == 200 else None, within=30, what="the kept model answers")
        ended = cloud.wait_for_status("interrupted", "deployed", "failed")
        assert ended["status"] == "deployed", ended
        assert ended["run_id"] == run["run_id"]
        kept = [job["TrainingJobName"] for job in jobs if "-kept-" in job["TrainingJobName"]]
        now = [
            job["TrainingJobName"] for job in cloud.sagemaker.list_training_jobs(MaxResults=100)["TrainingJobSummaries"]
        ]
        assert sorted(name for name in now if "-kept-" in name) == sorted(kept)


def test_control_c_leaves_no_process_behind(tmp_path: Path) -> None:
    """Everything that the cloud started ends with it, including endpoints and trials."""
    with run_local_cloud(tmp_path / "state") as cloud:
        upload_small_dataset(cloud, "left", epochs=50)
        cloud.wait_for_status("left", "tuning")
        processes = cloud.list_processes()
        assert cloud.interrupt() in (0, 130)
        _gone, alive = psutil.wait_procs(processes, timeout=10)
        assert not alive, [process.cmdline() for process in alive]
