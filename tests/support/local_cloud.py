"""Run a local cloud in a process of its own, as `make up` starts it, with clients that talk to it as a user would."""

from __future__ import annotations

import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import boto3
import httpx
import psutil
from botocore.config import Config

from tests.support.logs import follow_logs

T = TypeVar("T")
READY_WITHIN = 60.0


def find_free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listened on a moment ago, and that the system assigns to nobody.

    The system assigns ports above 32,767 to clients, and to programs that ask for any port.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def wait_until(look: Callable[[], T | None], *, within: float, what: str, every: float = 0.1) -> T:
    """Return the first result of `look` that is not None; AssertionError naming `what` after `within` seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(every)
    raise AssertionError(f"{what}: not within {within:g} s")


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables that a file of `export NAME=VALUE` lines sets."""
    lines = [line.removeprefix("export ") for line in path.read_text().splitlines() if line.startswith("export ")]
    return {name: "".join(shlex.split(value)) for name, value in (line.split("=", 1) for line in lines)}


class LocalCloud:
    """`python -m localcloud up` over one state folder, which may be killed and started again."""

    def __init__(self, home: Path, **variables: str) -> None:
        self.home, self.chosen = home, variables
        self.aws_port, self.port = find_free_port(), find_free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.variables: dict[str, str] = {}
        self.start_seconds = 0.0

    def start(self) -> float:
        """Start it, wait until it serves, and return the seconds that this took."""
        env_file = self.home / "env"
        env_file.unlink(missing_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment |= {"LOCALCLOUD_HOME": str(self.home), "AWS_PORT": str(self.aws_port), "PORT": str(self.port)}
        environment |= self.chosen
        self.home.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with (self.home / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "localcloud", "up"], env=environment, stdout=log, stderr=log, bufsize=0
            )
        wait_until(
            self._is_ready,
            within=READY_WITHIN,
            what=f"the local cloud is ready (see {self.home / 'up.log'})",
            every=0.02,
        )
        self.start_seconds = time.monotonic() - started
        return self.start_seconds

    def _is_ready(self) -> bool | None:
        assert self.process is not None
        assert self.process.poll() is None, (self.home / "up.log").read_text()
        env_file = self.home / "env"
        if not env_file.exists():
            return None
        self.variables = read_env_file(env_file)
        try:
            return True if httpx.get(f"{self.variables['API_URL']}/health", timeout=10).status_code == 200 else None
        except httpx.TransportError:
            return None

    def list_processes(self) -> list[psutil.Process]:
        """List the cloud's own process and all its descendants."""
        assert self.process is not None
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def interrupt(self) -> int:
        """End it as Ctrl-C does and return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """End it as a power cut does: SIGKILL to the cloud's own process only."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=60)

    def client(self, service: str, *, max_attempts: int = 4) -> Any:
        """Return an unmodified boto3 client that talks to this cloud."""
        return boto3.client(
            service,
            endpoint_url=self.variables["AWS_ENDPOINT_URL"],
            region_name=self.variables["AWS_REGION"],
            aws_access_key_id=self.variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.variables["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": max_attempts}),
        )

    @cached_property
    def s3(self) -> Any:
        return self.client("s3")

    @cached_property
    def sagemaker(self) -> Any:
        return self.client("sagemaker")

    @property
    def bucket(self) -> str:
        return self.variables["BUCKET"]

    @cached_property
    def api(self) -> httpx.Client:
        """Return a client of the app's routes with the token from `.localcloud/env`."""
        return httpx.Client(
            base_url=self.variables["API_URL"],
            headers={"Authorization": f"Bearer {self.variables['API_TOKEN']}"},
            timeout=60,
        )

    def upload(self, name: str, body: bytes) -> None:
        """Put an object under `datasets/`, as a user drops a file."""
        self.s3.put_object(Bucket=self.bucket, Key=f"datasets/{name}", Body=body)

    def list_runs(self, dataset: str) -> list[dict[str, Any]]:
        """List the runs of one dataset, newest first."""
        runs = self.api.get("/runs").raise_for_status().json()["runs"]
        return [run for run in runs if run["dataset"] == dataset]

    def wait_for_status(self, dataset: str, *statuses: str, within: float = 240) -> dict[str, Any]:
        """Wait until the dataset's newest run has one of the statuses, and return that run."""

        def look() -> dict[str, Any] | None:
            runs = self.list_runs(dataset)
            return runs[0] if runs and runs[0]["status"] in statuses else None

        return wait_until(look, within=within, what=f"{dataset} is {' or '.join(statuses)}")


@contextmanager
def run_local_cloud(home: Path, **variables: str) -> Iterator[LocalCloud]:
    """Yield a started local cloud with these variables in its environment, and end it whatever happens."""
    cloud = LocalCloud(home, **variables)
    try:
        with follow_logs(home, print) if os.environ.get("LOGS") else nullcontext():
            cloud.start()
            yield cloud
    finally:
        if cloud.process is not None and cloud.process.poll() is None:
            cloud.process.send_signal(signal.SIGINT)
            try:
                cloud.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                cloud.process.kill()
