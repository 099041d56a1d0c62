"""A local SageMaker that serves endpoints, tiny models for it, and a runner that a test controls."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from localcloud.common.clock import SystemClock
from localcloud.jobs.forkserver import ForkServer
from localcloud.jobs.run import Tools
from localcloud.sagemaker.hosting.deployments import Deployment, DeploymentReport
from localcloud.serving.fleets import ProcessEndpointRunner
from tests.localcloud.sagemaker_support import ROLE, LocalSageMaker, pack

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.6.0-cpu-py312"
_NUMBERS = itertools.count(1)
NAMED_MODEL = """
import json, os, time
from pathlib import Path

class Refused(Exception):
    status_code = 422
    message = '{"error": {"code": "Refused"}}'

def model_fn(model_dir):
    return (Path(model_dir) / "name.txt").read_text()

def input_fn(body, content_type):
    if body == b"die":
        os._exit(3)
    if body == b"refuse":
        raise Refused
    if body == b"slow":
        time.sleep(0.5)
    return body

def predict_fn(data, model):
    return {"model": model, "bytes": len(data), "greeting": os.environ.get("GREETING")}

def output_fn(prediction, accept):
    return json.dumps(prediction), "application/json"
"""
BROKEN_MODEL = (
    "def model_fn(model_dir): raise ValueError('no weights here')\ninput_fn = predict_fn = output_fn = model_fn\n"
)
INSTANCE = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
SERVERLESS = {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 4}}


def name_thing(kind: str) -> str:
    """A name that no other test of this process uses."""
    return f"{kind}-{os.getpid()}-{next(_NUMBERS)}"


@dataclass
class Hosting:
    """Shortcuts to models, configurations and endpoints of a running local SageMaker."""

    local: LocalSageMaker

    @property
    def sagemaker(self) -> Any:
        return self.local.sagemaker

    @property
    def runtime(self) -> Any:
        return self.local.client("sagemaker-runtime")

    def create_model(self, code: str = NAMED_MODEL, archive: bytes | None = None, **container: Any) -> str:
        """A model whose archive holds this code, and its own name in a file."""
        name = name_thing("model")
        body = archive or pack({"code/inference.py": code, "name.txt": name})
        url = self.local.put(f"models/{name}.tar.gz", body)
        container = {"Image": IMAGE, "ModelDataUrl": url} | container
        self.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
        return name

    def create_config(self, *models: str, **changes: Any) -> str:
        """A configuration with a variant for each model."""
        name = name_thing("config")
        variants = [
            {"VariantName": f"v{number}" if number else "main", "ModelName": model} | (changes or INSTANCE)
            for number, model in enumerate(models)
        ]
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
        return name

    def create_endpoint(self, config: str, *, wait: bool = True) -> str:
        name = name_thing("Endpoint")
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        if wait:
            self.wait(name)
        return name

    def wait(self, endpoint: str) -> dict[str, Any]:
        """Wait with boto3's own waiter (its half minutes shortened) until the endpoint is in service."""
        waiter = self.sagemaker.get_waiter("endpoint_in_service")
        waiter.wait(EndpointName=endpoint, WaiterConfig={"Delay": 0.05, "MaxAttempts": 600})
        return self.describe(endpoint)

    def describe(self, endpoint: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=endpoint)
        return answer

    def invoke(self, endpoint: str, body: bytes = b"hello", **headers: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.runtime.invoke_endpoint(EndpointName=endpoint, Body=body, **headers)
        return answer

    def events(self, endpoint: str) -> list[str]:
        """Return the statuses of its events, in order."""
        details = [event["detail"] for event in self.local.events if "endpoint" in event["resources"][0]]
        return [detail["EndpointStatus"] for detail in details if detail["EndpointName"] == endpoint]


@contextmanager
def serve_endpoints(local: LocalSageMaker) -> Iterator[Hosting]:
    """Give a local SageMaker a real runner of endpoints."""
    processes = ForkServer(preload=())
    clients = local.client("s3"), local.client("logs")
    tools = Tools(*clients, processes, SystemClock(), {"PATH": os.environ["PATH"]})
    runner = ProcessEndpointRunner(local.home / "endpoints", tools, threads=2)
    local.cloud.serving = runner
    yield Hosting(local)
    runner.close()
    processes.close()


class ToldRunner:
    """Keeps the deployments that it is given, and their reports, for a test to settle."""

    def __init__(self) -> None:
        self.deployments: list[tuple[Deployment, DeploymentReport]] = []
        self.removed: list[str] = []

    def deploy(self, deployment: Deployment, report: DeploymentReport) -> None:
        self.deployments.append((deployment, report))

    def remove(self, endpoint: str) -> None:
        self.removed.append(endpoint)

    @property
    def last(self) -> tuple[Deployment, DeploymentReport]:
        return self.deployments[-1]
