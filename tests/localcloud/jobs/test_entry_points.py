"""Jobs whose request brings its own entry point instead of script mode."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.jobs.directory import JobDirectory
from localcloud.jobs.entry_points import JobFailed, fetch_code
from tests.localcloud.sagemaker_support import IMAGE, LocalSageMaker, build_training_request, name_job, wait_until

SHELL = {
    "ContainerEntrypoint": ["/bin/sh", "-c"],
    "ContainerArguments": ["echo $0 $1; env > /opt/ml/model/env; python3 -V", "a b", "c"],
}


LOOP = "while true; do sleep 0.1; done"
TRAPPING = f"trap 'echo heard' TERM; sh -c 'trap \"echo child heard\" TERM; {LOOP}' & echo ready; {LOOP}"


def build_request(local: LocalSageMaker, **algorithm: Any) -> dict[str, Any]:
    request = build_training_request(name_job(), "unused", f"s3://{local.bucket}/out")
    specification = {"TrainingImage": IMAGE, "TrainingInputMode": "File", **algorithm}
    return request | {"AlgorithmSpecification": specification, "HyperParameters": {"epochs": "3"}}


def test_an_entry_point_is_run_in_place_of_script_mode(local: LocalSageMaker) -> None:
    """It runs unchanged, with its arguments, in place of /opt/ml. Without the toolkit there are no SM_ variables."""
    request = build_request(local, **SHELL) | {"Environment": {"COLOUR": "blue"}}
    name = request["TrainingJobName"]
    local.sagemaker.create_training_job(**request)
    job = local.finish(name)
    assert job["TrainingJobStatus"] == "Completed", local.log(name)
    assert "a b c\nPython 3." in local.log(name)
    variables = dict(
        line.split("=", 1)
        for line in local.unpack(job["ModelArtifacts"]["S3ModelArtifacts"])["env"].decode().splitlines()
    )
    assert (variables["TRAINING_JOB_NAME"], variables["COLOUR"]) == (name, "blue")
    assert [variable for variable in variables if variable.startswith("SM_")] == []
    assert json.loads((local.home / "jobs" / name / "input/config/hyperparameters.json").read_text()) == {"epochs": "3"}


@pytest.mark.parametrize(("script", "heard"), [(TRAPPING, ["heard"]), ("echo ready; sleep 60", [])])
def test_a_stop_reaches_the_entry_point_alone(local: LocalSageMaker, script: str, heard: list[str]) -> None:
    """It is the container's process 1: its handler gets SIGTERM, its children do not, and without one nothing ends.

    The kernel keeps a signal without a handler from process 1, so a program that sets none runs on until SIGKILL.
    """
    request = build_request(local, ContainerEntrypoint=["/bin/sh", "-c", script])
    name = request["TrainingJobName"]
    local.sagemaker.create_training_job(**request)
    log = local.home / "jobs" / name / "log.txt"
    wait_until(lambda: log.exists() and "ready" in log.read_text())
    asked = time.monotonic()
    local.sagemaker.stop_training_job(TrainingJobName=name)
    assert local.finish(name)["TrainingJobStatus"] == "Stopped"
    assert time.monotonic() - asked >= 1.0, "it must run until the grace of this cloud is over"
    assert [line for line in local.log(name).splitlines() if "heard" in line] == heard


def test_arguments_for_the_image_s_own_entry_point_are_refused(local: LocalSageMaker) -> None:
    """No image here could take them."""
    request = build_request(local, ContainerArguments=["--verbose"])
    with pytest.raises(ClientError, match="ContainerArguments need a ContainerEntrypoint"):
        local.sagemaker.create_training_job(**request)


def test_a_folder_that_a_shell_would_take_apart_is_named(tmp_path: Path) -> None:
    """The SDK's script does not quote its paths, and so cannot run below a folder with a space in its name."""
    job = {"AlgorithmSpecification": SHELL}
    with pytest.raises(JobFailed, match="another LOCALCLOUD_HOME"):
        fetch_code(None, job, JobDirectory(tmp_path / "my cloud"))
