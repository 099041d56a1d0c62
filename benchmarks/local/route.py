"""Measure what the app's route adds to a prediction at one connection, against an earlier version of the project.

The model answers at once, so that what is left is the way there and back: gateway, function, endpoint. A body of 60 kB
is sent in turns through the route and straight to the model's server. `--baseline TREE` names a checkout of the earlier
version, whose cloud is measured in turns with this one's: `git worktree add TREE COMMIT`. This file measures both
trees, so it uses only what both have.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
REPEATS, PREDICTIONS, WARM = 3, 200, 100
IDLE = 0.05  # processor seconds a second
BODY_BYTES, JPEG = 60_000, b"\xff\xd8\xff\xe0"  # what begins as an image is not searched for what it is instead
LATER = ("httptools", "uvloop")  # packages that uvicorn uses where they are installed
NAME, IMAGE = "served", "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.6.0-cpu-py312"
ROLE = "arn:aws:iam::123456789012:role/service-role/benchmark"
TYPE = {"Content-Type": "image/jpeg"}
Ways = Mapping[str, Callable[[], Any]]
CODE = """
import json
ANSWER = json.dumps({"results": [{"predictions": [{"class": "a", "probability": 1.0}]}], "run_id": "benchmark"})
def model_fn(model_dir): return None
def input_fn(body, content_type): return len(body)
def predict_fn(size, model): return size
def output_fn(size, accept): return ANSWER, "application/json"
"""


def pack(path: Path) -> None:
    """Write the archive of a model that answers at once."""
    with tarfile.open(path, "w:gz") as archive:
        for name, text in (("code/inference.py", CODE), ("model.pth", "none")):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


def deploy(cloud: Any, folder: Path) -> None:
    """Deploy the model where the app looks for the dataset `served`, and return when it is in service."""
    from tests.support.local_cloud import wait_until

    pack(folder / "model.tar.gz")
    cloud.s3.upload_file(str(folder / "model.tar.gz"), cloud.bucket, "models/served.tar.gz")
    endpoint = (
        f"whippet-local-{NAME}-" + hashlib.sha256(f"{cloud.bucket}\ndatasets/{NAME}.zip".encode()).hexdigest()[:8]
    )
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{cloud.bucket}/models/served.tar.gz"}
    variant = {"VariantName": "main", "ModelName": NAME, "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
    cloud.sagemaker.create_model(ModelName=NAME, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    cloud.sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
    cloud.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=NAME)

    def look() -> bool | None:
        status = cloud.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"]
        return None if status == "Creating" else status == "InService"

    if not wait_until(look, within=120, what="the endpoint is in service"):
        raise SystemExit(f"the endpoint failed: see {cloud.home}")


def find_server(cloud: Any) -> str:
    """Return the address of the model's server: it listens on a port that is neither of the cloud's own."""
    for process in cloud.list_processes():
        for connection in process.net_connections(kind="tcp"):
            if connection.status == "LISTEN" and connection.laddr.port not in (cloud.aws_port, cloud.port):
                return f"http://127.0.0.1:{connection.laddr.port}/invocations"
    raise SystemExit("no model server listens")


def measure() -> dict[str, float]:
    """Return the median milliseconds through the route and straight, and the cloud's processor time a prediction.

    `paused_ms` is what the route adds where the processes' times are read before each prediction: a walk through /proc,
    after which the caches have forgotten the cloud. The processor's time is read around a run of predictions."""
    import httpx

    from tests.support.local_cloud import run_local_cloud

    body = JPEG + os.urandom(BODY_BYTES - len(JPEG))
    with tempfile.TemporaryDirectory() as name, run_local_cloud(Path(name) / "cloud") as cloud:
        deploy(cloud, Path(name))
        server = find_server(cloud)
        wait_idle(cloud)
        with httpx.Client(timeout=30) as client:
            ways: Ways = {
                "through_ms": lambda: cloud.api.post(f"/models/{NAME}/predict", content=body, headers=TYPE),
                "direct_ms": lambda: client.post(server, content=body, headers=TYPE),
            }
            time_ways(ways, WARM)
            told, paused = time_ways(ways, PREDICTIONS), time_ways(ways, PREDICTIONS, lambda: count_processor(cloud))
            before = count_processor(cloud)
            time_ways({"through_ms": ways["through_ms"]}, PREDICTIONS)
            told["processor_ms"] = (count_processor(cloud) - before) * 1000 / PREDICTIONS
    return told | {"paused_ms": paused["through_ms"] - paused["direct_ms"]}


def wait_idle(cloud: Any) -> None:
    """Return when the cloud has nothing more to prepare: it goes on for seconds after it serves."""
    for _ in range(60):
        before = count_processor(cloud)
        time.sleep(1)
        if count_processor(cloud) - before < IDLE:
            return
    raise SystemExit(f"the cloud does not become idle: see {cloud.home}")


def time_ways(ways: Ways, times: int, pause: Callable[[], object] = lambda: None) -> dict[str, float]:
    """Return the median milliseconds of each way of asking, taken in turns, with a pause before each."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(times):
        for name, ask in ways.items():
            pause()
            began = time.perf_counter()
            ask().raise_for_status()
            taken[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(each) for name, each in taken.items()}


def count_processor(cloud: Any) -> float:
    """Return the processor seconds of all the cloud's processes."""
    return float(sum(sum(process.cpu_times()[:2]) for process in cloud.list_processes()))


def measure_tree(tree: Path) -> dict[str, float]:
    """Measure the project in a checkout, in a process of its own."""
    command = [sys.executable, str(HERE), "--measure"]
    with tempfile.TemporaryDirectory() as hidden:
        hide_later_packages(tree, Path(hidden))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([hidden, str(tree)])}
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told | {"added_ms": told["through_ms"] - told["direct_ms"]}


def hide_later_packages(tree: Path, folder: Path) -> None:
    """Write modules that cannot be imported in place of the parsers and loops that the tree's requirements lack.

    uvicorn takes them where they are installed. The endpoint's server takes them in both trees, on both ways alike."""
    named = (tree / "requirements-dev.txt").read_text()
    for package in LATER:
        if f"\n{package}==" not in named:
            (folder / f"{package}.py").write_text("raise ImportError('this version does not require it')\n")


def summarize(runs: list[dict[str, float]]) -> dict[str, Any]:
    from benchmarks.results import spread

    return {figure: spread(run[figure] for run in runs) for figure in runs[0]}


def state_claims(found: dict[str, list[dict[str, float]]], baseline: str | None) -> list[dict[str, Any]]:
    from benchmarks.results import claim

    added = {side: statistics.median(run["added_ms"] for run in runs) for side, runs in found.items()}
    details = {side: summarize(runs) for side, runs in found.items()}
    claims = [claim("what the route adds to a prediction, one connection", added["now"], "ms", **details["now"])]
    if baseline:
        told = {"peer": baseline, "ours": f"{added['now']:.1f} ms", "theirs": f"{added['before']:.1f} ms"}
        what, ratio = "what the route adds, one connection", added["now"] / added["before"]
        claims.append(claim(what, ratio, "ratio", at_most=0.5, **told, before=details["before"]))
        claims.append(compare_paused(details, baseline))
    return claims


def compare_paused(details: dict[str, Any], baseline: str) -> dict[str, Any]:
    from benchmarks.results import claim

    paused = {side: each["paused_ms"]["median"] for side, each in details.items()}
    told = {"peer": baseline, "ours": f"{paused['now']:.1f} ms", "theirs": f"{paused['before']:.1f} ms"}
    what = "what the route adds after a pause with cold caches, one connection"
    return claim(what, paused["now"] / paused["before"], "ratio", **told)


def name_commit(tree: Path) -> str:
    command = ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"]
    return "ours at " + subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--measure", action="store_true", help="measure the tree in which it runs, and print it")
    parser.add_argument("--baseline", type=Path, help="a checkout of an earlier version")
    parser.add_argument("--quick", action="store_true", help="one repeat, no result file")
    told = parser.parse_args(None if __name__ == "__main__" else [])
    if told.measure:
        print(json.dumps(measure()))
        return
    from benchmarks.results import write_result

    trees = {"now": ROOT} | ({"before": told.baseline.resolve()} if told.baseline else {})
    found: dict[str, list[dict[str, float]]] = {side: [] for side in trees}
    for _ in range(1 if told.quick else REPEATS):
        for side, tree in trees.items():
            found[side].append(measure_tree(tree))
            print(side, found[side][-1], flush=True)
    claims = state_claims(found, name_commit(told.baseline) if told.baseline else None)
    if told.quick:
        print(json.dumps(claims, indent=1))
        return
    write_result("route", claims, packages=["starlette", "uvicorn", "httpx", "boto3"])


if __name__ == "__main__":
    main()
