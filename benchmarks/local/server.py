"""Measure the local cloud itself: how soon it is ready, its memory, and how fast it describes a job.

The peer of DescribeTrainingJob is moto's server, asked the same by the same client in the same run; its jobs are
records that nothing runs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import psutil
from botocore.config import Config
from moto.server import ThreadedMotoServer

from benchmarks.local.small_jobs import build_training_request, upload_program
from benchmarks.results import claim, spread, write_result
from tests.support.local_cloud import LocalCloud, find_free_port, run_local_cloud, wait_until

STARTS = 5
DESCRIBES = 300
CONCURRENT = 200
TEMPLATE = "forkserver_template"


def measure_starts() -> list[float]:
    """Return the seconds from the command to an answer of the health route, each time in a fresh folder."""
    seconds = []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as folder:
            cloud = LocalCloud(Path(folder) / "state")
            seconds.append(cloud.start())
            cloud.interrupt()
    return seconds


def measure_memory(cloud: LocalCloud) -> tuple[float, float]:
    """Return the proportional set size in MiB of the cloud's processes, and of the template and its children."""
    cloud_mib = template_mib = 0.0
    for process in cloud.list_processes():
        size = process.memory_full_info().pss / 2**20
        if TEMPLATE in " ".join(process.cmdline()):
            template_mib += size
        else:
            cloud_mib += size
    return cloud_mib, template_mib


def time_calls(call: Callable[[], Any], count: int) -> list[float]:
    """Return the milliseconds of each of `count` calls, one after another, after ten that are not counted."""
    times = []
    for _ in range(count + 10):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1000)
    return times[10:]


def connect(url: str, key: str = "moto", secret: str = "moto") -> Any:
    """Return a client of an AWS port. The local cloud takes its own keys alone; a bare moto takes any."""
    return boto3.client(
        "sagemaker",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(max_pool_connections=CONCURRENT, retries={"total_max_attempts": 1}),
    )


def count_lost(client: Any, name: str) -> int:
    """Count how many of 200 simultaneous describes do not return the job."""

    def describe(_: int) -> bool:
        try:
            return bool(client.describe_training_job(TrainingJobName=name)["TrainingJobName"] == name)
        except Exception:  # noqa: BLE001 - any fault is a lost answer
            return False

    with ThreadPoolExecutor(CONCURRENT) as pool:
        return CONCURRENT - sum(pool.map(describe, range(CONCURRENT)))


def measure_moto(request: dict[str, Any]) -> list[float]:
    """Return the milliseconds of moto's DescribeTrainingJob."""
    port = find_free_port()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        client = connect(f"http://127.0.0.1:{port}")
        client.create_training_job(**request)
        name = request["TrainingJobName"]
        return time_calls(lambda: client.describe_training_job(TrainingJobName=name), DESCRIBES)
    finally:
        server.stop()


def main() -> None:
    starts = measure_starts()
    with tempfile.TemporaryDirectory() as folder, run_local_cloud(Path(folder) / "state") as cloud:
        wait_until(lambda: find_template(cloud), within=60, what="the template process has started")
        time.sleep(15)  # let the template finish its imports and the cloud settle
        cloud_mib, template_mib = measure_memory(cloud)
        request = build_training_request(cloud, "described", upload_program(cloud, "print('done')\n"))
        names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        client = connect(*(cloud.variables[name] for name in names))
        client.create_training_job(**request)
        client.get_waiter("training_job_completed_or_stopped").wait(
            TrainingJobName="described", WaiterConfig={"Delay": 1}
        )
        ours = spread(time_calls(lambda: client.describe_training_job(TrainingJobName="described"), DESCRIBES))
        lost = count_lost(client, "described")
        motos = spread(measure_moto(request))
    ready = spread(starts)
    write_result(
        "local_cloud",
        [
            claim("ready after the command", ready["median"], "s", at_most=3, **ready),
            claim("memory without jobs and without the template process", cloud_mib, "MiB", at_most=250),
            claim("memory of the template process", template_mib, "MiB"),
            claim("DescribeTrainingJob, median", ours["median"], "ms", at_most=10, **ours),
            claim("DescribeTrainingJob over moto's, median", ours["median"] / motos["median"], "ratio", moto=motos),
            claim(f"describes lost of {CONCURRENT} at once", lost, "answers", at_most=0),
        ],
        packages=["moto", "starlette", "uvicorn", "botocore"],
    )


def find_template(cloud: LocalCloud) -> psutil.Process | None:
    return next((process for process in cloud.list_processes() if TEMPLATE in " ".join(process.cmdline())), None)


if __name__ == "__main__":
    main()
