"""Measure the time from CreateEndpoint to InService, and what the route adds to a prediction.

The peer of the route is the same image sent straight to the endpoint's own process, in the same run, in turns.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.results import claim, spread, write_result
from tests.end_to_end.conftest import upload_small_dataset
from tests.support.local_cloud import LocalCloud, run_local_cloud, wait_until
from tests.support.pictures import draw_test_picture

ENDPOINTS = 5
PREDICTIONS = 100
PICTURE = {"Content-Type": "image/png"}


def deploy_model(cloud: LocalCloud) -> dict[str, Any]:
    """Take a small dataset through the pipeline. Returns SageMaker's description of its model."""
    upload_small_dataset(cloud, "served", trials=1, parallel_trials=1)
    run = cloud.wait_for_status("served", "deployed", "failed")
    if run["status"] != "deployed":
        raise SystemExit(f"the model to be measured was not deployed: {run['reason']}")
    return dict(cloud.sagemaker.describe_model(ModelName=run["run_id"]))


def time_endpoint(cloud: LocalCloud, number: int, model: str) -> float:
    """Return the seconds from CreateEndpoint to InService."""
    name = f"timed-{number}"
    variant = {"VariantName": "main", "ModelName": model, "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
    cloud.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    start = time.monotonic()
    cloud.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

    def look() -> bool | None:
        status = cloud.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"]
        return None if status == "Creating" else status == "InService"

    if not wait_until(look, within=60, what="the endpoint is in service", every=0.05):
        raise SystemExit("an endpoint failed")
    seconds = time.monotonic() - start
    cloud.sagemaker.delete_endpoint(EndpointName=name)
    return seconds


def find_server(cloud: LocalCloud) -> str:
    """Return the address of the endpoint process: it listens on a port that is neither of the cloud's own."""
    for process in cloud.list_processes():
        for connection in process.net_connections(kind="tcp"):
            is_listening = connection.status == psutil.CONN_LISTEN
            if is_listening and connection.laddr.port not in (cloud.aws_port, cloud.port):
                return f"http://127.0.0.1:{connection.laddr.port}"
    raise SystemExit("no endpoint process listens")


def time_predictions(cloud: LocalCloud, server: str) -> tuple[list[float], list[float]]:
    """Return the milliseconds of predictions through the route and directly from the endpoint, in turns."""
    picture, through, direct = draw_test_picture("red"), [], []
    with httpx.Client(timeout=30) as client:
        for _ in range(PREDICTIONS + 10):
            start = time.perf_counter()
            cloud.api.post("/models/served/predict", content=picture, headers=PICTURE).raise_for_status()
            middle = time.perf_counter()
            client.post(f"{server}/invocations", content=picture, headers=PICTURE).raise_for_status()
            through.append((middle - start) * 1000)
            direct.append((time.perf_counter() - middle) * 1000)
    return through[10:], direct[10:]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, run_local_cloud(Path(folder) / "state") as cloud:
        model = deploy_model(cloud)["ModelName"]
        through, direct = time_predictions(cloud, find_server(cloud))
        creation = spread(time_endpoint(cloud, number, model) for number in range(ENDPOINTS))
    added = statistics.median(through) - statistics.median(direct)
    write_result(
        "endpoint",
        [
            claim("CreateEndpoint to InService", creation["median"], "s", at_most=5, **creation),
            claim("the route over a direct call, median", added, "ms", at_most=25),
            claim("prediction through the route, median", statistics.median(through), "ms", **spread(through)),
            claim("prediction straight from the endpoint", statistics.median(direct), "ms", **spread(direct)),
            claim("through the route over direct", statistics.median(through) / statistics.median(direct), "ratio"),
        ],
        packages=["torch", "starlette", "uvicorn", "httpx", "boto3"],
    )


if __name__ == "__main__":
    main()
