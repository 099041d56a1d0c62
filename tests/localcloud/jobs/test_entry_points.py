"""Jobs that bring an entry point of their own instead of script mode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.jobs.directory import JobDirectory
from localcloud.jobs.entry_points import JobFailed, fetch_code
from tests.localcloud.sagemaker_support import IMAGE, LocalSageMaker, build_training_request, name_job

SHELL = {
    "ContainerEntrypoint": ["/bin/sh", "-c"],
    "ContainerArguments": ["echo $0 $1; env > /opt/ml/model/env; python3 -V", "a b", "c"],
}


def build_request(local: LocalSageMaker, **algorithm: Any) -> dict[str, Any]:
    request = build_training_request(name_job(), "unused", f"s3://{local.bucket}/out")
    specification = {"TrainingImage": IMAGE, "TrainingInputMode": "File", **algorithm}
    return request | {"AlgorithmSpecification": specification, "HyperParameters": {"epochs": "3"}}


def test_an_entry_point_is_run_in_place_of_script_mode(local: LocalSageMaker) -> None:
    """As it is, with its arguments, where /opt/ml would be; without the toolkit there is no SM_ variable."""
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


def test_arguments_for_the_image_s_own_entry_point_are_refused(local: LocalSageMaker) -> None:
    """There is no image here that would take them."""
    request = build_request(local, ContainerArguments=["--verbose"])
    with pytest.raises(ClientError, match="ContainerArguments need a ContainerEntrypoint"):
        local.sagemaker.create_training_job(**request)


def test_a_folder_that_a_shell_would_take_apart_is_named(tmp_path: Path) -> None:
    """The SDK's script does not quote its paths, and so cannot run below a folder with a space in its name."""
    job = {"AlgorithmSpecification": SHELL}
    with pytest.raises(JobFailed, match="another LOCALCLOUD_HOME"):
        fetch_code(None, job, JobDirectory(tmp_path / "my cloud"))
