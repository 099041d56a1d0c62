"""A local SageMaker behind a real server on loopback, with moto's S3 and logs beside it, and tiny programs to train."""

from __future__ import annotations

import io
import itertools
import json
import os
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from localcloud.common.clock import SystemClock
from localcloud.common.faults import FaultFile
from localcloud.common.store import Store
from localcloud.jobs.forkserver import ForkServer
from localcloud.jobs.run import Tools
from localcloud.jobs.runner import ProcessJobRunner
from localcloud.s3.keeper import S3Keeper
from localcloud.sagemaker.app import create_app
from localcloud.sagemaker.core.cloud import Cloud
from localcloud.server.origin import Origin, Router, make_moto
from tests.localcloud.hosting import client, make_guard, serve

ROLE = "arn:aws:iam::123456789012:role/whippet-training"
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.10.0-cpu-py313"
METRIC = {"Name": "valid:score", "Regex": "valid:score=([-+0-9.eE]+)"}
_NUMBERS = itertools.count(1)


def name_job(kind: str = "job") -> str:
    """A name that no other test of this process uses."""
    return f"{kind}-{os.getpid()}-{next(_NUMBERS)}"


def pack(files: dict[str, str]) -> bytes:
    """Return a .tar.gz of text files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            member.mode = 0o755
            archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


@dataclass
class LocalSageMaker:
    """The running thing: its URL, clients by service name, the events it sent, and requests for jobs."""

    url: str
    home: Path
    cloud: Cloud
    events: list[dict[str, Any]]
    runner: ProcessJobRunner
    bucket: str = "training"
    _clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        return self._clients.setdefault(service, client(service, self.url))

    @cached_property
    def sagemaker(self) -> Any:
        return self.client("sagemaker")

    @cached_property
    def s3(self) -> Any:
        return self.client("s3")

    def put(self, key: str, body: bytes) -> str:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        return f"s3://{self.bucket}/{key}"

    def read(self, uri: str) -> bytes:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        body: bytes = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def unpack(self, uri: str) -> dict[str, bytes]:
        """Return the files of a .tar.gz in S3."""
        with tarfile.open(fileobj=io.BytesIO(self.read(uri))) as archive:
            return {item.name: archive.extractfile(item).read() for item in archive if item.isfile()}  # type: ignore[union-attr]

    def request(self, program: str, name: str | None = None, **changes: Any) -> dict[str, Any]:
        """A CreateTrainingJob request that runs the text of `program` as train.py; `changes` replace its members."""
        name = name or name_job()
        code = self.put(f"code/{name}.tar.gz", pack({"train.py": program}))
        return build_training_request(name, code, f"s3://{self.bucket}/out") | changes

    def train(self, program: str, name: str | None = None, **changes: Any) -> str:
        """Create that job, and return its name."""
        request = self.request(program, name, **changes)
        self.sagemaker.create_training_job(**request)
        return str(request["TrainingJobName"])

    def describe(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.sagemaker.describe_training_job(TrainingJobName=name)
        return answer

    def finish(self, name: str, seconds: float = 20) -> dict[str, Any]:
        """Wait with boto3's own waiter (its delay of minutes shortened) and describe the job."""
        waiter = self.sagemaker.get_waiter("training_job_completed_or_stopped")
        waiter.wait(TrainingJobName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": int(seconds / 0.1)})
        return self.describe(name)

    def break_it(self, faults: Mapping[str, Any]) -> None:
        """Let these faults happen from now on, and no others."""
        partial = self.home / "faults.partial"
        partial.write_text(json.dumps(faults))
        partial.replace(self.home / "faults.json")

    def log(self, name: str) -> str:
        return (self.home / "jobs" / name / "log.txt").read_text()


def build_training_request(name: str, code: str, output: str) -> dict[str, Any]:
    """Return the smallest CreateTrainingJob request in script mode."""
    return {
        "TrainingJobName": name,
        "HyperParameters": {"sagemaker_program": '"train.py"', "sagemaker_submit_directory": f'"{code}"'},
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File", "MetricDefinitions": [METRIC]},
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": output},
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    }


def wait_until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Return the condition's first true value. The test fails after so many seconds."""
    limit = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < limit, f"{condition} did not come true within {seconds} s"
        time.sleep(0.02)
    return value


class Late:
    """An ASGI app that stands in the server before the app itself can be made, which needs the server's URL."""

    def __init__(self) -> None:
        self.app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@contextmanager
def local_sagemaker(
    home: Path, cores: int = 4, grace: float = 1.0, preload: Sequence[str] = ()
) -> Iterator[LocalSageMaker]:
    """The whole local SageMaker with its state in `home`; its template process imports nothing but `preload`."""
    moto, late, events = make_moto(), Late(), []
    origin = Origin(Router(moto, S3Keeper(moto, home, lambda *_: None)), late, make_guard(home))
    processes = ForkServer(preload=preload)
    with serve(origin) as url:
        environment, faults = {"PATH": os.environ["PATH"]}, FaultFile(home / "faults.json")
        tools = Tools(
            client("s3", url), client("logs", url), processes, SystemClock(), environment, grace, faults=faults
        )
        runner = ProcessJobRunner(home / "jobs", tools, cores)
        cloud = Cloud(tools.clock, Store(home / "sagemaker"), runner, events.append, s3=tools.s3, faults=faults)
        late.app = create_app(cloud)
        local = LocalSageMaker(url, home, cloud, events, runner)
        local.s3.create_bucket(Bucket=local.bucket)
        yield local
        runner.close()
    processes.close()
    origin.close()
