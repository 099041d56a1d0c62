"""Test that every command in the documentation does what it says."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from tests.contracts.test_documents import PAGES, PROJECT, list_commands
from tests.end_to_end.conftest import upload_small_dataset
from tests.support.local_cloud import LocalCloud, find_free_port, read_env_file, wait_until
from tests.support.pictures import build_colour_zip, draw_test_picture

# Errors of the API become errors of the command, and what a reader would see goes to the test's output.
PREAMBLE = 'set -euo pipefail\ncurl() { command curl --fail-with-body -sS "$@"; }\n'


SHELL = {
    str(page.relative_to(PROJECT)): [each for each in list_commands(page) if not each.startswith(("make", ". "))]
    for page in PAGES
}


@pytest.fixture(scope="module")
def reader(cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a reader with a zip and an image of dogs; the model `dogs` already answers."""
    folder = tmp_path_factory.mktemp("reader")
    upload_small_dataset(cloud, "dogs", trials=1, parallel_trials=1)
    (folder / "dogs.zip").write_bytes(build_colour_zip())
    Image.open(io.BytesIO(draw_test_picture("red"))).save(folder / "dog.jpg")
    run = cloud.wait_for_status("dogs", "deployed", "failed", "rejected")
    assert run["status"] == "deployed", run
    return folder


@pytest.fixture(scope="module")
def type_page(cloud: LocalCloud, reader: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Type the commands of a page one after another, after `. .localcloud/env`; each page only once."""

    @cache
    def type_commands(page: str) -> subprocess.CompletedProcess[str]:
        script = PREAMBLE + f". {cloud.home / 'env'}\nset -x\n" + "\n".join(SHELL[page])
        environment = {"HOME": str(reader), "PATH": f"{PROJECT / '.venv/bin'}:{os.environ['PATH']}"}
        return subprocess.run(["bash", "-c", script], cwd=reader, env=environment, capture_output=True, text=True)

    return type_commands


@pytest.mark.parametrize("page", [name for name, commands in SHELL.items() if commands])
def test_the_commands_of_a_page_work(type_page: Callable[[str], subprocess.CompletedProcess[str]], page: str) -> None:
    """No command fails."""
    done = type_page(page)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_the_sdk_tells_of_the_app_s_search_what_the_service_tells(
    cloud: LocalCloud, type_page: Callable[[str], subprocess.CompletedProcess[str]]
) -> None:
    """It prints the best trial, the table of all, and an answer of the endpoint; and its own training runs."""
    done = type_page("docs/localcloud.md")
    printed = done.stdout
    trial = re.search(r"^Completed (\S+)", printed, re.MULTILINE)
    assert trial, printed
    name = cloud.sagemaker.describe_training_job(TrainingJobName=trial[1])["TuningJobArn"].rpartition("/")[2]
    assert name in {run["run_id"] for run in cloud.api.get("/runs").json()["runs"]}
    search = cloud.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    best = search["BestTrainingJob"]
    value = best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
    assert f"Completed {best['TrainingJobName']}" in printed
    row = re.search(rf"{best['TrainingJobName']}\s+(\S+)", printed.partition("FinalObjectiveValue")[2])
    assert row, printed
    assert float(row[1]) == pytest.approx(value, abs=1e-5)
    assert '"predictions"' in printed
    own = cloud.sagemaker.list_training_jobs(NameContains="mine-")["TrainingJobSummaries"]
    assert [job["TrainingJobStatus"] for job in own] == ["Completed"], done.stderr


@pytest.fixture
def ports() -> dict[str, str]:
    """Return the environment of a reader whose usual ports are taken."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return inherited | {"AWS_PORT": str(find_free_port()), "PORT": str(find_free_port())}


def test_make_up_stays_until_control_c(ports: dict[str, str], tmp_path: Path) -> None:
    """It writes the file of variables, serves, and ends together with everything that it started."""
    environment = ports | {"LOCALCLOUD_HOME": str(tmp_path / "state")}
    process = subprocess.Popen(
        ["make", "up"], cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        env_file = tmp_path / "state" / "env"
        wait_until(lambda: env_file.exists() or None, within=60, what="make up has written .localcloud/env")
        assert read_env_file(env_file)["API_URL"] == f"http://127.0.0.1:{ports['PORT']}/api"
    finally:
        os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C in a terminal does
        printed, _ = process.communicate(timeout=60)
    assert "Whippet is up" in printed
    assert not env_file.exists()


def test_make_demo_runs_the_whole_pipeline_on_digits(ports: dict[str, str], tmp_path: Path) -> None:
    """It ends by itself, with the promised accuracy and answers."""
    environment = ports | {"LOCALCLOUD_HOME": str(tmp_path / "state")}
    done = subprocess.run(["make", "demo"], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"test accuracy\s+([\d.]+)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) >= 0.96
    assert done.stdout.count("✓") == 3
    assert "trial 4 Completed" in done.stdout
