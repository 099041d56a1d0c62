"""Define what every operation works on, and the registry by which the app dispatches.

An operation is a function `create_model(cloud, request) -> response`. Both are dictionaries with AWS's own member
names, with datetimes and bytes as the service model types them. The app has already validated the request against the
model. An operation may be `async`; any other is called in a thread. Errors are raised as
`localcloud.protocol.errors.ServiceError`.

Records live in the store under the kind in their ARN (`training-job`, `hyper-parameter-tuning-job`, `model`,
`endpoint-config`, `endpoint`). A record is Describe's answer, with private members that begin with `_`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from localcloud.common.clock import Clock
from localcloud.common.faults import Faults, ReadFaults
from localcloud.common.store import Record, Store
from localcloud.sagemaker.core.meters import Meter

Request = dict[str, Any]
Response = dict[str, Any]
Event = dict[str, Any]
Operation = Callable[["Cloud", Request], Any]

OPERATIONS: dict[str, Operation] = {}
RUNTIME_OPERATIONS: dict[str, Operation] = {}


@dataclass(frozen=True)
class Outcome:
    """How a job ended: its status, its secondary status where that differs, and the reason of a failure."""

    status: str
    secondary: str | None = None
    reason: str | None = None


class JobReport(Protocol):
    """What a runner reports on one job: see `localcloud.sagemaker.training.jobs.JobReport`."""

    def enter_stage(self, secondary: str, message: str | None = None) -> None: ...

    def add_metrics(self, points: Iterable[tuple[str, float]]) -> None: ...

    def finish(self, outcome: Outcome) -> None: ...


class JobRunner(Protocol):
    """Runs training jobs. Both calls return at once. The reports come later, from any thread."""

    def start(self, job: Record, report: JobReport) -> None:
        """Run the job, now or when its turn comes. A job that a killed cloud had begun continues, and a Stopping one
        ends with what it has."""

    def stop(self, name: str) -> None:
        """Ask the job to end: SIGTERM to process 1, then SIGKILL to all. Unknown and ended jobs are ignored."""


@dataclass
class Cloud:
    """One account in one region: its state, and its connections to everything else.

    `emit` takes a whole EventBridge event as AWS sends it. It is called with the lock held, so it must not block.
    `s3` is a boto3 client. `serving` runs the endpoints' servers. `warmth` maps each serverless endpoint to the time of
    its last use and the time at which it was, or will be, ready. `faults` reads the faults on purpose. `meter` counts
    the invocations for CloudWatch.
    """

    clock: Clock
    store: Store
    jobs: JobRunner
    emit: Callable[[Event], None]
    s3: Any = None
    serving: Any = None
    region: str = "us-east-1"
    account: str = "123456789012"
    faults: ReadFaults = Faults
    meter: Meter | None = None
    warmth: dict[str, tuple[datetime, datetime]] = field(default_factory=dict, repr=False)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def arn(self, kind: str, name: str) -> str:
        """Return the ARN of a SageMaker resource, in lower case as the service writes it."""
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{kind}/{name.lower()}"


def operation(function: Operation) -> Operation:
    """Register a function as the SageMaker operation of its name: `create_model` serves CreateModel."""
    OPERATIONS[_name_operation(function)] = function
    return function


def runtime_operation(function: Operation) -> Operation:
    """Register a function as the Runtime's operation of its name: `invoke_endpoint` serves InvokeEndpoint."""
    RUNTIME_OPERATIONS[_name_operation(function)] = function
    return function


def _name_operation(function: Operation) -> str:
    return "".join(word.capitalize() for word in function.__name__.split("_"))
