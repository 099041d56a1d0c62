"""Hold what the control plane is given: settings, clients, clock, log. The real ones are built here alone."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Protocol

from aws_lambda_powertools import Logger

from chalicelib.aws import clients
from chalicelib.aws.auth import Tokens
from chalicelib.aws.buckets import Bucket
from chalicelib.aws.logs import Logs
from chalicelib.aws.publishing import Publisher
from chalicelib.aws.sagemaker import Runtime, SageMaker
from chalicelib.aws.scaling import Scaling
from chalicelib.aws.secrets import Secrets
from chalicelib.runs.folder import Runs
from chalicelib.settings import Settings, read_settings


class Clock(Protocol):
    """A clock: it tells the time and waits."""

    def now(self) -> datetime:
        """Return the time, in UTC."""

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class Services:
    """What one function works with. `make_id` returns a string that is unique."""

    settings: Settings
    runs: Runs
    sagemaker: SageMaker
    runtime: Runtime
    scaling: Scaling
    logs: Logs
    publisher: Publisher
    tokens: Tokens
    clock: Clock
    log: Logger
    make_id: Callable[[], str]

    @property
    def bucket(self) -> Bucket:
        return self.runs.bucket

    def at_page(self, url: str) -> Services:
        """Return services that know where the page is, where no setting says so."""
        return self if self.settings.page_url else replace(self, settings=replace(self.settings, page_url=url))


def connect_services(log: Logger) -> Services:
    """Return the services for this function's environment and account."""
    settings = read_settings(os.environ)
    clock = SystemClock()
    return Services(
        settings=settings,
        runs=Runs(Bucket(clients.connect("s3"), settings.bucket)),
        sagemaker=SageMaker(clients.connect("sagemaker")),
        runtime=Runtime(cache(lambda seconds: clients.connect("sagemaker-runtime", read_timeout=seconds, tries=1))),
        scaling=Scaling(cache(lambda: clients.connect("application-autoscaling"))),
        logs=Logs(cache(lambda: clients.connect("logs"))),
        publisher=Publisher(clients.connect("events"), clients.connect("sns"), settings.topic_arn),
        tokens=Tokens(Secrets(clients.connect("secretsmanager")), settings.tokens_secret_id, clock),
        clock=clock,
        log=log,
        make_id=lambda: uuid.uuid4().hex,
    )


class ServiceProvider:
    """Provide the services: built at the first request, so that importing the app costs nothing."""

    def __init__(self, build: Callable[[], Services]) -> None:
        self._build = build

    @cached_property
    def current(self) -> Services:
        return self._build()

    def use(self, services: Services) -> None:
        """Provide these services from now on, for a host that brings its own."""
        self.__dict__["current"] = services
