"""Run the whole local cloud in one process: the AWS origin, SageMaker, the app's functions, their events and its API.

`Hosting` is the one place that builds everything. Each of the two ASGI servers runs a loop on a thread of its own;
blocking work runs on other threads. Three kinds of processes are attached to this one by sockets and end with it,
however it ends: the functions (`functions/host.py`), and the jobs and endpoints (`jobs/forkserver.py`).
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import uvicorn
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config

from localcloud.common.addresses import REGION, Place
from localcloud.common.bytecode import Bytecode
from localcloud.common.clock import SystemClock
from localcloud.common.durable import append_line
from localcloud.common.faults import FaultFile
from localcloud.common.keys import keep_credentials, keep_tokens
from localcloud.common.store import Store
from localcloud.functions.environments import FunctionHost
from localcloud.functions.event_bus import EventBus
from localcloud.functions.event_delivery import Delivery, subscribe
from localcloud.functions.gateway import Gateway
from localcloud.functions.invoking import Functions
from localcloud.functions.log import FunctionLog
from localcloud.functions.places import DEFAULT_LIMIT
from localcloud.iam.access import Accesses
from localcloud.iam.call_log import CallLog
from localcloud.iam.guard import Guard
from localcloud.iam.identity import Identities
from localcloud.jobs.forkserver import ForkServer
from localcloud.jobs.run import Tools
from localcloud.jobs.runner import ProcessJobRunner, choose_inherited
from localcloud.protocol.account_limits import CONCURRENCY
from localcloud.s3.keeper import S3Keeper
from localcloud.sagemaker.app import create_app
from localcloud.sagemaker.core.cloud import Cloud
from localcloud.sagemaker.core.meters import Meter
from localcloud.sagemaker.core.tags import list_tagged
from localcloud.sagemaker.hosting.endpoints import resume_endpoints
from localcloud.sagemaker.training.jobs import ENDED, resume_training_jobs
from localcloud.sagemaker.training.jobs import KIND as TRAINING_JOB
from localcloud.sagemaker.tuning.jobs import resume_tuning_jobs
from localcloud.server.door import Door, read_friends
from localcloud.server.fronts import make_fronts
from localcloud.server.origin import Origin, Router, make_moto
from localcloud.server.shortcut import deliver
from localcloud.serving.fleets import ProcessEndpointRunner
from localcloud.stacks.provisioning import Stack, provision

log = logging.getLogger(__name__)
STAGE = "local"
CHOSEN = {
    "APP_NAME": "AppName",
    "CORS_ORIGINS": "CorsOrigins",
    "DEBUGGER_MODE": "DebuggerMode",
    "DEBUGGER_RULES_IMAGE": "DebuggerRulesImage",
    "WEIGHTS_URI": "WeightsUri",
}
WEIGHTS = "weights/"  # the folder of a bucket that `make weights` fills
# An upload's CRC32 is checked; to hash its bytes for the signature too would protect them from nobody here.
OWN_CALLS = Config(max_pool_connections=32, connect_timeout=5, read_timeout=120, s3={"payload_signing_enabled": False})


class Hosting:
    """A running local cloud: build it, `start` it, and finally `close` it."""

    def __init__(self, place: Place, host: FunctionHost) -> None:
        self._place, self._home, self._host = place, place.home, host
        self._clients = cache(self._connect)
        moto = make_moto()
        self._bus = EventBus(REGION, self._wake)
        self._keeper = S3Keeper(moto, self._home / "s3", self._bus.emit, REGION)
        self._identities = Identities(REGION, keep_credentials(self._home))
        self._processes = ForkServer()
        self.cloud = self._build_cloud()
        guard = Guard(self._identities, CallLog(self._home / "calls.jsonl"), REGION)
        fronts = make_fronts(
            moto, self._clients, FaultFile(self._home / "faults.json"), lambda: list_tagged(self.cloud)
        )
        router = Router(moto, self._keeper, self._wake, fronts)
        self._origin = Origin(router, create_app(self.cloud), guard)
        self._servers: list[uvicorn.Server] = []
        self._threads: list[threading.Thread] = []
        self._delivery: Delivery | None = None
        self._functions: Functions | None = None
        self._log: FunctionLog | None = None
        self._api_function = ""

    def start(self, sockets: tuple[socket.socket, socket.socket], template: Path, source: Path) -> Stack:
        """Serve the AWS API on the first socket, build the template's resources, and serve the app on the second.

        `source` is the training program's tarball. It is uploaded to where the template's CodeUri points."""
        place = self._place
        friends = read_friends(os.environ)
        self._serve(Door(self._origin, place.aws_port, {place.port}, friends, signed_only=True), sockets[0])
        stack = self._provision(json.loads(template.read_text()), source)
        self._log = FunctionLog(self._home / "functions.log", self._clients("logs"))
        self._functions = Functions(
            stack.functions,
            self._host,
            region=REGION,
            log=self._log,
            assume=self._identities.assume,
            read_limit=lambda: self.cloud.faults().quotas.get(CONCURRENCY, DEFAULT_LIMIT),
        )
        self._delivery = Delivery(stack.functions, self._functions.invoke, region=REGION, lost=self._keep_lost)
        gateway = Gateway(
            stack.api_body,
            stage=stack.api_stage,
            function=stack.api_function,
            invoke=self._functions.answer,
            responses=stack.api_responses,
        )
        self._serve(Door(gateway, place.port, (), friends), sockets[1])
        self._functions.warm(stack.api_function)
        self._api_function = stack.api_function
        resume_endpoints(self.cloud)
        resume_training_jobs(self.cloud)
        resume_tuning_jobs(self.cloud)
        self._delivery.start()
        return stack

    def warm(self) -> None:
        """Do in advance what would slow down the first invocations, jobs and endpoints."""
        self._processes.warm()  # first, since it takes longest, and by itself
        self._host.prime()
        if self._functions is not None and self._api_function:
            self._functions.renew(self._api_function)
        ended = (job for job in self.cloud.store.list(TRAINING_JOB) if job["TrainingJobStatus"] in ENDED)
        self._jobs.show_logs_again(ended)

    def close(self) -> None:
        """Stop everything: first what could start something new, last what the shutdown itself still needs."""
        if self._delivery is not None:
            self._delivery.close()
        self._jobs.close()
        self._endpoints.close()
        if self._functions is not None:
            self._functions.close()
        self._host.close()
        if self._log is not None:
            self._log.close()
        self._processes.close()
        for server in self._servers:
            server.should_exit = True
        for thread in self._threads:
            thread.join(5)
        self._origin.close()
        self._keeper.close()

    def _build_cloud(self) -> Cloud:
        clock = SystemClock()
        shared = {"FEATURE_CACHE": str(self._home / "features"), "PIXEL_CACHE": str(self._home / "pixels")}
        environment = {**shared, **choose_inherited(os.environ)}
        clients, faults = (self._clients("s3"), self._clients("logs")), FaultFile(self._home / "faults.json")
        accesses = Accesses(self._identities, self._connect_as)
        tools = Tools(
            *clients,
            self._processes,
            clock,
            environment,
            assume=accesses.of_role,
            faults=faults,
            bytecode=Bytecode(self._home / "bytecode"),
        )
        self._jobs = ProcessJobRunner(self._home / "jobs", tools)
        self._endpoints = ProcessEndpointRunner(self._home / "endpoints", tools)
        return Cloud(
            clock=clock,
            store=Store(self._home / "sagemaker"),
            jobs=self._jobs,
            emit=self._bus.put,
            s3=self._clients("s3"),
            serving=self._endpoints,
            region=REGION,
            faults=faults,
            meter=Meter(clock, self._clients("cloudwatch")),
        )

    def _connect(self, service: str) -> Any:
        return self._connect_as(service, os.environ)

    def _connect_as(self, service: str, variables: Mapping[str, str]) -> Any:
        client = boto3.client(
            service,
            endpoint_url=self._place.aws_url,
            region_name=REGION,
            config=OWN_CALLS,
            aws_access_key_id=variables.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=variables.get("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=variables.get("AWS_SESSION_TOKEN"),
        )
        client.meta.events.register("before-send.s3.PutObject", self._deliver)
        return client

    def _deliver(self, request: AWSPreparedRequest, **_named: Any) -> AWSResponse:
        return deliver(self._origin, request)

    def _wake(self) -> None:
        if self._delivery is not None:
            self._delivery.wake()

    def _serve(self, app: Any, listener: socket.socket) -> None:
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,  # the caller's address is the connection's, as API Gateway tells it
                timeout_keep_alive=75,
                timeout_graceful_shutdown=1,
            )
        )
        run = threading.Thread(target=server.run, args=([listener],), daemon=True, name="server")
        self._servers.append(server)
        self._threads.append(run)
        run.start()

    def _provision(self, template: dict[str, Any], source: Path) -> Stack:
        own = {"StageName": STAGE, "CodeName": source.name, "MonthlyCapUsd": "0", "CreateApiLogsRole": "false"}
        own |= {"PageUrl": self._place.page_url, "Billed": "false"}
        chosen = find_weights(self._clients("s3")) | choose_parameters(os.environ)
        stack = provision(template, own | chosen, self._clients, REGION)
        self._clients("s3").upload_file(str(source), stack.outputs["BucketName"], f"code/{source.name}")
        tokens = json.dumps({"tokens": keep_tokens(self._home)})
        self._clients("secretsmanager").put_secret_value(SecretId=stack.outputs["TokensSecretId"], SecretString=tokens)
        subscribe(stack.functions, self._clients)
        return stack

    def _keep_lost(self, function: str, event: dict[str, Any], reason: str) -> None:
        """Keep a dead letter on disk too, because moto's queues end with the process."""
        log.error("%s gave up an event: %s", function, reason)
        letter = json.dumps({"function": function, "reason": reason, "event": event})
        append_line(self._home / "dead-letters.jsonl", letter)


def choose_parameters(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the template's parameters that the environment's variables choose."""
    return {parameter: environ[variable] for variable, parameter in CHOSEN.items() if environ.get(variable)}


def find_weights(s3: Any) -> dict[str, str]:
    """Return the parameter that names the pretrained weights, if a bucket holds some: `make weights` put them there."""
    for bucket in s3.list_buckets()["Buckets"]:
        if s3.list_objects_v2(Bucket=bucket["Name"], Prefix=WEIGHTS, MaxKeys=1).get("KeyCount"):
            return {"WeightsUri": f"s3://{bucket['Name']}/{WEIGHTS}"}
    return {}
