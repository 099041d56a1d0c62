"""The same contract through clients that we did not write: the AWS CLI and sagemaker-core, by AWS_ENDPOINT_URL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.localcloud.sagemaker_support import LocalSageMaker, name_job, pack
from tests.localcloud.simulation import build_tuning_request

TRAIN = "print('epoch=1 valid:score=0.5')\nopen(__import__('os').environ['SM_MODEL_DIR'] + '/model.pth', 'w').close()"

# sagemaker-core takes seconds to import: one program for all of its steps, in an interpreter of its own.
RESOURCES = """
import json, sys
from sagemaker.core.resources import HyperParameterTuningJob, TrainingJob
from sagemaker.core.utils.code_injection.codec import transform

training, tuning = json.load(open(sys.argv[1]))
job = TrainingJob.create(**transform(training, "CreateTrainingJobRequest"))
job.wait(poll=1, timeout=60, logs=True)
search = HyperParameterTuningJob.create(**transform(tuning, "CreateHyperParameterTuningJobRequest"))
search.wait(poll=1, timeout=60)
search.refresh()
print(json.dumps({
    "status": job.training_job_status,
    "model": job.model_artifacts.s3_model_artifacts,
    "listed": [item.training_job_name for item in TrainingJob.get_all(name_contains=job.training_job_name)],
    "tuning": search.hyper_parameter_tuning_job_status,
    "best": search.best_training_job.training_job_name,
    "children": len(list(search.get_all_training_jobs())),
}))
"""


def environment(local: LocalSageMaker, home: Path) -> dict[str, str]:
    """What a user's shell holds after `. .localcloud/env`, and nothing of this machine's own AWS settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | {
        "AWS_ENDPOINT_URL": local.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_PAGER": "",
        "HOME": str(home),
    }


def run_cli(local: LocalSageMaker, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("aws")
    command = [str(program), *words, "--output", "json"]
    return subprocess.run(command, env=environment(local, home), capture_output=True, text=True, timeout=60)


def test_the_aws_cli_trains_a_job(local: LocalSageMaker, tmp_path: Path) -> None:
    """Create, wait, describe, list, and an error as the CLI shows it."""
    request = local.request(TRAIN)
    name = request["TrainingJobName"]
    created = run_cli(local, tmp_path, "sagemaker", "create-training-job", "--cli-input-json", json.dumps(request))
    assert json.loads(created.stdout)["TrainingJobArn"].endswith(f":training-job/{name}"), created.stderr
    local.finish(name)
    calls: list[tuple[str, ...]] = [
        ("wait", "training-job-completed-or-stopped", "--training-job-name", name),
        ("describe-training-job", "--training-job-name", name),
        ("create-training-job", "--cli-input-json", json.dumps(request)),
    ]
    with ThreadPoolExecutor() as pool:
        waited, described, refused = pool.map(lambda words: run_cli(local, tmp_path, "sagemaker", *words), calls)
    assert waited.returncode == 0, waited.stderr
    job = json.loads(described.stdout)
    assert (job["TrainingJobStatus"], job["FinalMetricDataList"][0]["Value"]) == ("Completed", 0.5)
    assert "An error occurred (ResourceInUse) when calling the CreateTrainingJob operation" in refused.stderr


def test_sagemaker_core_trains_and_tunes(local: LocalSageMaker, tmp_path: Path) -> None:
    """Its resources create, wait (with the log), refresh, list and page, unmodified."""
    training = local.request(TRAIN)
    name = name_job("core")
    code = local.put(f"code/{name}.tar.gz", pack({"train.py": TRAIN}))
    tuning = build_tuning_request(name, code, f"s3://{local.bucket}/out", jobs=2)
    requests = tmp_path / "requests.json"
    requests.write_text(json.dumps([training, tuning]))
    done = subprocess.run(
        [sys.executable, "-c", RESOURCES, str(requests)],
        env=environment(local, tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert (seen["status"], seen["tuning"], seen["children"]) == ("Completed", "Completed", 2)
    assert seen["listed"] == [training["TrainingJobName"]]
    assert seen["best"].startswith(f"{name}-00")
    assert list(local.unpack(seen["model"])) == ["model.pth"]
