"""What every operation works on, and the registry that the doors dispatch by.

An operation is a function `create_model(cloud, request) -> response` of dictionaries in AWS's own member names, with
datetimes and bytes as the service model types them; the door has validated the request against the model before. It
may be `async`; one that is not is called in a thread. Faults are raised as `localcloud.protocol.errors.ServiceError`.

Records live in the store under the kind that stands in their ARN (`training-job`, `hyper-parameter-tuning-job`,
`model`, `endpoint-config`, `endpoint`). A record is what Describe answers, with private members that begin with `_`.
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

Request = dict[str, Any]
Response = dict[str, Any]
Event = dict[str, Any]
Operation = Callable[["Cloud", Request], Any]

OPERATIONS: dict[str, Operation] = {}
RUNTIME_OPERATIONS: dict[str, Operation] = {}


@dataclass(frozen=True)
class Outcome:
    """How a job ended: its status, the secondary status where that is another word, and the reason of a failure."""

    status: str
    secondary: str | None = None
    reason: str | None = None


class JobReport(Protocol):
    """What a runner tells of one job: see `localcloud.sagemaker.training.jobs.JobReport`."""

    def enter_stage(self, secondary: str, message: str | None = None) -> None: ...

    def add_metrics(self, points: Iterable[tuple[str, float]]) -> None: ...

    def finish(self, outcome: Outcome) -> None: ...


class JobRunner(Protocol):
    """What carries out training jobs. Both calls return at once; the reports come later, from any thread."""

    def start(self, job: Record, report: JobReport) -> None:
        """Carry out the job, now or when its turn comes. A job begun before (by a killed cloud) goes on."""

    def stop(self, name: str) -> None:
        """Ask the job to end: SIGTERM, and SIGKILL after 120 s. Unknown and ended jobs are passed over."""


@dataclass
class Cloud:
    """One account in one region: its state, and its ways to the world.

    `emit` takes a whole EventBridge event as AWS sends it; it is called with the lock held, so it must not block.
    `s3` is a boto3 client; `serving` is whatever runs the endpoints' servers. `warmth` holds of each serverless
    endpoint when it was last used and when it was, or will be, ready; `faults` tells what is to go wrong.
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
    warmth: dict[str, tuple[datetime, datetime]] = field(default_factory=dict, repr=False)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def arn(self, kind: str, name: str) -> str:
        """The ARN of a thing of SageMaker: lower case, as the service writes it."""
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{kind}/{name.lower()}"


def operation(function: Operation) -> Operation:
    """Register a function as SageMaker's operation of its name: `create_model` serves CreateModel."""
    OPERATIONS[_name_operation(function)] = function
    return function


def runtime_operation(function: Operation) -> Operation:
    """Register a function as SageMaker Runtime's operation of its name: `invoke_endpoint` serves InvokeEndpoint."""
    RUNTIME_OPERATIONS[_name_operation(function)] = function
    return function


def _name_operation(function: Operation) -> str:
    return "".join(word.capitalize() for word in function.__name__.split("_"))
