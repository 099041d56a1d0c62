"""Test AWS's `sagemaker` SDK v3, unmodified, as a client of the local cloud by AWS_ENDPOINT_URL."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from localcloud.common.addresses import Place, describe_sdk, write_sdk_settings
from tests.localcloud.sagemaker_support import IMAGE, ROLE, LocalSageMaker
from tests.localcloud.server.test_other_clients import environment
from tests.localcloud.serving import endpoint_support
from tests.localcloud.serving.endpoint_support import NAMED_MODEL, serve_endpoints

TRAIN = """
import argparse, json, os
parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float)
parser.add_argument("--label")
arguments, _ = parser.parse_known_args()
print(f"epoch=1 valid:score={arguments.rate}")
seen = {"label": arguments.label, "env": dict(os.environ), "data": os.listdir(os.environ["SM_CHANNEL_DATA"])}
model = os.environ["SM_MODEL_DIR"]
json.dump(seen, open(model + "/seen.json", "w"))
open(model + "/name.txt", "w").write(arguments.label)
os.makedirs(model + "/code")
open(model + "/code/inference.py", "w").write(INFERENCE)
"""
PROGRAMS = {
    "train.py": f"INFERENCE = {NAMED_MODEL!r}\n{TRAIN}",
    "broken.py": "raise SystemExit('no such breed')",
    "slow.py": "import time\ntime.sleep(60)",
}


@pytest.fixture(scope="module")
def seen(local: LocalSageMaker, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the SDK saw when it did everything once."""
    home = tmp_path_factory.mktemp("sdk")
    places = prepare(local, home)
    with serve_endpoints(local):
        done = subprocess.run(
            [sys.executable, "-m", "tests.localcloud.server.sdk_client", str(places), str(home / "seen.json")],
            env=environment(local, home) | describe_sdk(Place(home)),
            capture_output=True,
            text=True,
            timeout=180,
        )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    answer: dict[str, Any] = json.loads((home / "seen.json").read_text())
    return answer


def prepare(local: LocalSageMaker, home: Path) -> Path:
    """Write the user's programs, the SDK's settings, and the file that tells the client where things are."""
    for name, program in PROGRAMS.items():
        (home / "source" / name).parent.mkdir(exist_ok=True)
        (home / "source" / name).write_text(program)
    write_sdk_settings(Place(home), local.bucket)
    places = {
        "source": str(home / "source"),
        "role": ROLE,
        "image": IMAGE,
        "serving image": endpoint_support.IMAGE,
        "out": f"s3://{local.bucket}/sdk",
        "data": local.put("sdk-data/a.txt", b"A").rpartition("/")[0],
    }
    (home / "places.json").write_text(json.dumps(places))
    return home / "places.json"


def test_a_model_trainer_trains_its_source_code(local: LocalSageMaker, seen: dict[str, Any]) -> None:
    """The SDK's own script starts the program with its hyperparameters, channel, variables and metrics."""
    trained = seen["trained"]
    assert (trained["status"], trained["metrics"]) == ("Completed", {"valid:score": 0.25}), local.log(trained["name"])
    kept = json.loads(local.unpack(trained["model"])["seen.json"])
    assert (kept["label"], kept["env"]["COLOUR"], kept["data"]) == ("a b", "blue", ["a.txt"])
    assert kept["env"]["SM_MODEL_DIR"] == f"{local.home}/jobs/{trained['name']}/model"


def test_a_trainer_s_program_that_fails_fails_its_job(local: LocalSageMaker, seen: dict[str, Any]) -> None:
    """The SDK's script writes the failure file, whose text is the FailureReason; the job is listed by its status."""
    failed = seen["failed"]
    assert failed["status"] == "Failed"
    assert "broken.py" in failed["reason"]
    assert "no such breed" in local.log(failed["name"])
    assert seen["listed"] == [failed["name"]]


def test_what_is_stopped_ends_stopped(seen: dict[str, Any]) -> None:
    """A training is stopped through its resource, a search through its tuner."""
    assert (seen["stopped"]["status"], seen["halted"]) == ("Stopped", "Stopped")


def test_a_tuner_finds_the_best_of_its_trials(local: LocalSageMaker, seen: dict[str, Any]) -> None:
    """The trials run `source_code` in script mode; best job, table and ranges are the service's."""
    search = seen["search"]
    described = local.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="search")
    best = described["BestTrainingJob"]
    value = best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
    assert (search["status"], search["statuses"]) == ("Completed", ["Completed", "Completed"])
    assert search["best"] == best["TrainingJobName"]
    assert search["best in table"] == [best["TrainingJobName"], value, pytest.approx(value, abs=1e-6)]
    assert set(search["columns"]) > {"label", "rate", "TrainingElapsedTimeSeconds"}
    assert (search["ranges"], len(search["children"]), seen["read again"]) == (["label", "rate"], 2, 2)


def test_a_trained_model_is_deployed_asked_and_taken_away(seen: dict[str, Any]) -> None:
    """The SDK's resources create model, configuration and endpoint, invoke it, and leave nothing behind."""
    served = seen["served"]
    assert served["answer"]["bytes"] == len(b"hello")
    assert (served["type"], served["variant"], served["listed"]) == ("application/json", "main", ["served"])
    assert served["left"] == []
