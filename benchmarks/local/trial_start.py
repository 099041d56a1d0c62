"""Measure the time from a job's creation to its first line, beside a cold process that imports torch."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.local.small_jobs import build_training_request, upload_program
from benchmarks.results import claim, spread, write_result
from tests.support.local_cloud import LocalCloud, run_local_cloud

ROUNDS = 7
PROGRAM = "import time, torch, torchvision\nprint(f'first line at {time.time()}', flush=True)\n"
GROUP = "/aws/sagemaker/TrainingJobs"


def time_cold_process() -> float:
    """Return the seconds from the start of a fresh interpreter to the program's first line."""
    start = time.time()
    output = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout
    return read_first_line(output) - start


def time_warm_job(cloud: LocalCloud, client: Any, logs: Any, name: str, code_uri: str) -> float:
    """Return the seconds from the call of CreateTrainingJob to the program's first line."""
    start = time.time()
    client.create_training_job(**build_training_request(cloud, name, code_uri))
    client.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name, WaiterConfig={"Delay": 1})
    stream = logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=name)["logStreams"][0]
    events = logs.get_log_events(logGroupName=GROUP, logStreamName=stream["logStreamName"], startFromHead=True)
    return read_first_line("\n".join(event["message"] for event in events["events"])) - start


def read_first_line(output: str) -> float:
    return float(output.split("first line at ", 1)[1].split()[0])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, run_local_cloud(Path(folder) / "state") as cloud:
        client, logs = cloud.client("sagemaker"), cloud.client("logs")
        code_uri = upload_program(cloud, PROGRAM)
        time_warm_job(cloud, client, logs, "first-0", code_uri)
        warm, cold = [], []
        for number in range(ROUNDS):
            warm.append(time_warm_job(cloud, client, logs, f"warm-{number}", code_uri))
            cold.append(time_cold_process())
    warm_spread, cold_spread = spread(warm), spread(cold)
    write_result(
        "trial_start",
        [
            claim("first line after creation, warm", warm_spread["median"], "s", at_most=0.5, **warm_spread),
            claim("first line of a cold process", cold_spread["median"], "s", **cold_spread),
            claim("cold over warm", cold_spread["median"] / warm_spread["median"], "ratio"),
        ],
        packages=["torch", "torchvision"],
    )


if __name__ == "__main__":
    main()
