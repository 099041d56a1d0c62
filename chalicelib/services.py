"""Everything that the control plane is handed: settings, clients, clock, log. One place builds the real ones."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Protocol

from aws_lambda_powertools import Logger

from chalicelib.aws import clients
from chalicelib.aws.auth import Tokens
from chalicelib.aws.buckets import Bucket
from chalicelib.aws.publishing import Publisher
from chalicelib.aws.sagemaker import Runtime, SageMaker
from chalicelib.aws.scaling import Scaling
from chalicelib.aws.secrets import Secrets
from chalicelib.runs.folder import Runs
from chalicelib.settings import Settings, read_settings


class Clock(Protocol):
    """The time, and waiting."""

    def now(self) -> datetime:
        """The time, in UTC."""

    def sleep(self, seconds: float) -> None:
        """Come back after that many seconds."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class Services:
    """What one function works with. `make_id` returns a text that nobody else has."""

    settings: Settings
    runs: Runs
    sagemaker: SageMaker
    runtime: Runtime
    scaling: Scaling
    publisher: Publisher
    tokens: Tokens
    clock: Clock
    log: Logger
    make_id: Callable[[], str]

    @property
    def bucket(self) -> Bucket:
        return self.runs.bucket


def connect_services(log: Logger) -> Services:
    """The services of this function's environment and account."""
    settings = read_settings(os.environ)
    clock = SystemClock()
    return Services(
        settings=settings,
        runs=Runs(Bucket(clients.connect("s3"), settings.bucket)),
        sagemaker=SageMaker(clients.connect("sagemaker")),
        runtime=Runtime(cache(lambda seconds: clients.connect("sagemaker-runtime", read_timeout=seconds, tries=1))),
        scaling=Scaling(cache(lambda: clients.connect("application-autoscaling"))),
        publisher=Publisher(clients.connect("events"), clients.connect("sns"), settings.topic_arn),
        tokens=Tokens(Secrets(clients.connect("secretsmanager")), settings.tokens_secret_id, clock),
        clock=clock,
        log=log,
        make_id=lambda: uuid.uuid4().hex,
    )


class ServiceProvider:
    """Hands out the services: built at the first request, so that importing the app costs nothing."""

    def __init__(self, build: Callable[[], Services]) -> None:
        self._build = build

    @cached_property
    def current(self) -> Services:
        return self._build()

    def use(self, services: Services) -> None:
        """Hand out these from now on: for who hosts the app with services of its own."""
        self.__dict__["current"] = services
