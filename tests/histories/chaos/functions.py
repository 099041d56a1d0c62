"""The Lambda functions and what invokes them: a bus that loses, doubles and delays events, the schedule, the API."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable
from functools import partial

from chalicelib import errors
from chalicelib.pipeline.advance import advance
from chalicelib.pipeline.intake import advance_by_endpoint, look_at_dataset
from chalicelib.pipeline.sweep import sweep
from chalicelib.runs.identity import find_run_of_training
from chalicelib.services import Services
from tests.histories.chaos.account import Account
from tests.histories.chaos.scheduling import Task

LIMIT = 300.0  # seconds that a function may run; a test compares them with .chalice/config.json
API_LIMIT = 30.0
RETRIES = (60.0, 120.0)  # seconds after which Lambda tries a failed event again
Work = Callable[[Services], object]


class Functions:
    """The functions of one account. `crashes` are the exceptions that none of them should raise."""

    def __init__(self, account: Account, dice: random.Random, lost: float, doubled: float, late: float) -> None:
        self.account, self.dice = account, dice
        self.lost, self.doubled, self.late = lost, doubled, late
        self.crashes: list[str] = []
        self.coming = 0
        self._count = 0

    def cease(self) -> None:
        """Deliver every event once and at once from now on."""
        self.lost = self.doubled = self.late = 0.0

    def emit(self, kind: str, name: str) -> None:
        """Let SageMaker tell of a change. A trial's event is no business of any function."""
        if kind == "HyperParameterTuningJob":
            self.deliver(f"on_tuning {name[-8:]}", partial(advance, name))
        elif kind == "TrainingJob" and (run_id := find_run_of_training(name)):
            self.deliver(f"on_training {run_id[-8:]}", partial(advance, run_id))
        elif kind == "Endpoint":
            self.deliver(f"on_endpoint {name[-8:]}", partial(advance_by_endpoint, name))

    def emit_upload(self, dataset: str) -> None:
        """Let S3 tell of an upload below datasets/."""
        self.deliver(f"on_upload {dataset[:10]}", partial(look_at_dataset, dataset))

    def deliver(self, name: str, work: Work) -> None:
        """Bring an event to its function: once, twice, or never, now or later."""
        if self.dice.random() < self.lost:
            self.account.trace.add(f"  the event {name} is lost")
            return
        for _ in range(2 if self.dice.random() < self.doubled else 1):
            seconds = self.dice.uniform(0.2, 3.0)
            if self.dice.random() < self.late:
                seconds = self.dice.uniform(10.0, 3600.0)
            self._invoke_later(seconds, name, work, len(RETRIES))

    def _invoke_later(self, seconds: float, name: str, work: Work, retries: int) -> None:
        self.coming += 1
        self.account.scheduler.call_later(seconds, partial(self._invoke_event, name, work, retries))

    def _invoke_event(self, name: str, work: Work, retries: int) -> None:
        self.coming -= 1

        def end(task: Task) -> None:
            if (task.failure or task.is_killed) and retries:
                self._invoke_later(RETRIES[-retries], name, work, retries - 1)

        self.invoke(name, work, LIMIT, end)

    def sweep(self) -> None:
        """Invoke the schedule's function, which is not tried again."""
        self.invoke("sweep", sweep, LIMIT)

    def invoke(self, name: str, work: Work, limit: float, ended: Callable[[Task], object] = lambda task: None) -> None:
        """Run a function on its own. An exception that is none of ours, unless it is of no run of ours, is a crash."""
        self._count += 1
        services = self.account.services()
        label = f"{name}#{self._count}"

        def end(task: Task) -> None:
            if task.failure and not isinstance(task.failure, errors.WhippetError):
                text = "".join(traceback.format_exception(task.failure)[-3:])
                self.crashes.append(f"{label}: {text}")
            how = "is killed" if task.is_killed else f"raises {task.failure!r}" if task.failure else "ends"
            self.account.trace.add(f"{label} {how} {task.answer or ''}")
            ended(task)

        self.account.scheduler.start(label, partial(_run, work, services), limit, end)


def _run(work: Work, services: Services) -> object:
    try:
        return work(services)
    except errors.RunNotFound as error:  # app.react: the event is of no run of ours
        return error
