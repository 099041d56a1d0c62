"""Test the same contract through a client that is not ours: the AWS CLI, by AWS_ENDPOINT_URL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.localcloud.hosting import KEYS
from tests.localcloud.sagemaker_support import LocalSageMaker

TRAIN = "print('epoch=1 valid:score=0.5')\nopen(__import__('os').environ['SM_MODEL_DIR'] + '/model.pth', 'w').close()"


def environment(local: LocalSageMaker, home: Path) -> dict[str, str]:
    """Return what a user's shell holds after `. .localcloud/env`, without this machine's own AWS settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | {
        "AWS_ENDPOINT_URL": local.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": KEYS.access_key_id,
        "AWS_SECRET_ACCESS_KEY": KEYS.secret_access_key,
        "AWS_PAGER": "",
        "HOME": str(home),
    }


def run_cli(local: LocalSageMaker, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("aws")
    command = [str(program), *words, "--output", "json"]
    return subprocess.run(command, env=environment(local, home), capture_output=True, text=True, timeout=60)


def test_the_aws_cli_trains_a_job(local: LocalSageMaker, tmp_path: Path) -> None:
    """The CLI creates, waits for, describes and lists a job, and shows an error."""
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
