"""Run endpoints on one machine: fleets of model servers, and the traffic that goes to them.

A deployment's servers start beside those that serve. When all are healthy, the traffic shifts in one step. The old
servers then answer the requests under way, and end. Nothing is kept for a restart: the endpoints' records say what to
deploy again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from localcloud.common.logs import LogStream
from localcloud.jobs.run import Tools
from localcloud.jobs.runner import count_cores
from localcloud.sagemaker.hosting.deployments import (
    Answer,
    Deployment,
    DeploymentReport,
    Invocation,
    Overloaded,
    Variant,
)
from localcloud.serving.connections import Connections
from localcloud.serving.model_process import HOST, ModelProcess, StartError
from localcloud.serving.model_server import FULL

log = logging.getLogger(__name__)
LOG_GROUP = "/aws/sagemaker/Endpoints"
INVOCATION_SECONDS = 60  # SageMaker's limit
DRAIN_SECONDS = 60


class Fleet:
    """The servers of one deployment. `busy` counts the invocations under way."""

    def __init__(self, number: int, servers: Sequence[ModelProcess]) -> None:
        self.number = number
        self.servers = servers
        self.busy = 0

    def start(self) -> None:
        """Start every server, and return when all are healthy. Raises StartError for the first that is not."""
        for server in self.servers:
            server.start()

    def choose(self, name: str | None, dice: random.Random) -> ModelProcess:
        """Return the variant of this name, or one by weight. Raises LookupError for an unknown name."""
        if name is not None:
            found = [server for server in self.servers if server.variant.name == name]
            if not found:
                raise LookupError(name)
            return found[0]
        weights = [server.variant.weight for server in self.servers]
        return dice.choices(self.servers, weights if any(weights) else None)[0]

    def drain_and_stop(self) -> None:
        """Wait for the requests under way, then end the servers."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while self.busy and time.monotonic() < deadline:
            time.sleep(0.02)
        self.stop()

    def stop(self) -> None:
        for server in self.servers:
            server.stop()


class ProcessEndpointRunner:
    """Runs endpoints as processes, each deployment below `folder`/ENDPOINT; `engines` beside it keeps conversions.

    It is thread-safe, but `invoke` must be called from one event loop. `tools` are those of the jobs. `threads` is the
    number of predictions that a server makes at once; by default the machine's cores.
    """

    def __init__(
        self, folder: Path, tools: Tools, threads: int | None = None, dice: random.Random | None = None
    ) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._folder = folder.absolute()
        self._engines = self._folder.with_name("engines")
        self._tools = tools
        self._threads = threads or count_cores()
        self._dice = dice or random.Random()  # noqa: S311 - it shares out traffic
        self._lock = threading.Lock()
        self._wanted: dict[str, list[Fleet]] = {}  # those requested and not yet superseded or removed
        self._serving: dict[str, Fleet] = {}
        self._closed = False
        self._connections = Connections(HOST)

    def deploy(self, deployment: Deployment, report: DeploymentReport) -> None:
        """In the background, start the servers, check their health, shift the traffic, and stop the old servers."""
        fleet = self._make_fleet(deployment)
        with self._lock:
            self._wanted.setdefault(deployment.endpoint, []).append(fleet)
        arguments = (deployment.endpoint, fleet, report)
        threading.Thread(target=self._deploy, args=arguments, name=f"deploy-{deployment.endpoint}", daemon=True).start()

    def remove(self, endpoint: str) -> None:
        """Stop the traffic at once, and end the servers in the background."""
        with self._lock:
            self._wanted.pop(endpoint, None)
            fleet = self._serving.pop(endpoint, None)
        if fleet is not None:
            threading.Thread(target=fleet.drain_and_stop, name=f"stop-{endpoint}", daemon=True).start()

    def close(self) -> None:
        """End all servers. Requests under way get the servers' own seconds of grace.

        A deployment that is cut short has not failed: the next cloud continues it.
        """
        with self._lock:
            self._closed = True
            fleets = [fleet for fleets in self._wanted.values() for fleet in fleets]
            self._wanted.clear()
            self._serving.clear()
        threads = [threading.Thread(target=fleet.stop) for fleet in fleets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    async def invoke(self, endpoint: str, invocation: Invocation) -> Answer:
        """See `EndpointRunner.invoke`."""
        fleet = self._serving.get(endpoint)
        if fleet is None:
            raise ConnectionError("its servers are starting")
        server = fleet.choose(invocation.variant, self._dice)
        if server.port is None:
            raise ConnectionError(f"its server for variant {server.variant.name} is being started again")
        fleet.busy += 1
        try:
            async with asyncio.timeout(INVOCATION_SECONDS):
                return await self._send(server, server.port, invocation)
        except ConnectionError as error:
            raise ConnectionError(f"its server for variant {server.variant.name} does not answer") from error
        finally:
            fleet.busy -= 1

    async def _send(self, server: ModelProcess, port: int, invocation: Invocation) -> Answer:
        answer = await self._connections.post(port, "/invocations", invocation.body, invocation.headers)
        if FULL.items() <= answer.headers.items():
            raise Overloaded(f"the queue of variant {server.variant.name} is full")
        return Answer(answer.status, answer.body, answer.headers, server.variant.name)

    def _make_fleet(self, deployment: Deployment) -> Fleet:
        stamp = secrets.token_hex(4)
        folder = self._folder / deployment.endpoint / f"{deployment.number}-{stamp}"
        servers = [self._make_server(deployment, variant, folder, stamp) for variant in deployment.variants]
        return Fleet(deployment.number, servers)

    def _make_server(self, deployment: Deployment, variant: Variant, folder: Path, stamp: str) -> ModelProcess:
        """Return a variant's server, which calls AWS under its model's role."""
        tools = self._tools.of_role(variant.role)
        stream = LogStream(tools.logs, f"{LOG_GROUP}/{deployment.endpoint}", f"{variant.name}/i-{stamp}")
        return ModelProcess(variant, folder / variant.name, stream, tools, self._threads, self._engines)

    def _deploy(self, endpoint: str, fleet: Fleet, report: DeploymentReport) -> None:
        if (reason := self._start(endpoint, fleet)) is not None:
            self._drop(endpoint, fleet)
            fleet.stop()
            if not self._closed:
                report.fail(reason)
            return
        loser = self._shift(endpoint, fleet)
        if loser is not fleet:
            report.succeed()
        if loser is not None:
            loser.drain_and_stop()

    def _start(self, endpoint: str, fleet: Fleet) -> str | None:
        """Start the servers. Returns the reason if they do not start, or None."""
        try:
            fleet.start()
        except StartError as error:
            return str(error)
        except Exception as error:
            log.exception("the servers of endpoint %s could not be started", endpoint)
            return f"InternalServerError: {type(error).__name__}: {error}"
        return None

    def _shift(self, endpoint: str, fleet: Fleet) -> Fleet | None:
        """Shift the traffic to the fleet. Returns the fleet to stop: the previous one, or this one if too late."""
        with self._lock:
            if fleet not in self._wanted.get(endpoint, []):
                return fleet
            before = self._serving.get(endpoint)
            winner, loser = (fleet, before) if before is None or before.number <= fleet.number else (before, fleet)
            self._serving[endpoint] = winner
        if loser is not None:
            self._drop(endpoint, loser)
        return loser

    def _drop(self, endpoint: str, fleet: Fleet) -> None:
        with self._lock:
            fleets = self._wanted.get(endpoint, [])
            if fleet in fleets:
                fleets.remove(fleet)
