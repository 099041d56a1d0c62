"""Define what is seen of a run: the side of `decisions.decide` that goes in. Plain values."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chalicelib.runs.identity import Run
from chalicelib.runs.listing import APPROVABLE, Facts

CAPACITY_ERROR = "CapacityError"  # in the failure reason of a job for which AWS had no machine of its type
NO_CAPACITY = (CAPACITY_ERROR, "InsufficientInstanceCapacity")  # the same for an endpoint
UNDER_WAY = ("InProgress", "Stopping")
STAGES = ("tuning", "training", "deploying")
WATCHED = ("stopped", "failed", "superseded")  # ends that a look which has decided to launch may not know of yet
RESULT, APPROVAL, SECOND_RESULT = "result.json", "approval.json", "result-2.json"
FOREIGN = "Foreign"  # the status of a job that has this run's name but belongs to another


@dataclass(frozen=True)
class Trial:
    """A training job of the tuning job. `objective` is None if none was measured.

    `billable_seconds` and `instance_type` are None for a job that was listed but not described. `metrics` are its last
    ones, and `model_data` is the URI of its model, if that was looked for and is there.
    """

    name: str
    status: str
    hyperparameters: dict[str, str]
    objective: float | None = None
    reason: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    billable_seconds: float | None = None
    instance_type: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    model_data: str | None = None


@dataclass(frozen=True)
class Tuning:
    """The tuning job. `trials` is empty until it has ended. `at_once` is how many trials run at a time."""

    status: str
    best: str | None = None
    trials: tuple[Trial, ...] = ()
    reason: str | None = None
    at_once: int | None = None
    created_at: datetime | None = None


@dataclass(frozen=True)
class Training:
    """The profiled training job and its evaluation. `number` counts the tries: one for each instance type.

    `model_data` is the URI of its model, if that was looked for and is there.
    """

    status: str
    reason: str | None = None
    evaluation: dict[str, Any] | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    name: str = ""
    number: int = 1
    billable_seconds: float | None = None
    instance_type: str | None = None
    instance_count: int | None = None
    model_data: str | None = None
    created_at: datetime | None = None

    @property
    def is_out_of_capacity(self) -> bool:
        """Whether it never ran because AWS had no machine of its type."""
        return self.status == "Failed" and CAPACITY_ERROR in (self.reason or "")


@dataclass(frozen=True)
class Room:
    """Whether the stage's monthly cap leaves room for a run. `granted` means that the run has its reservation.

    `obstacle` is what the run waits for, and `refused` why no month will ever have room for it.
    """

    granted: bool = False
    obstacle: str | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Endpoint:
    """The dataset's endpoint: the config that serves now (`config`) and the one that will serve soon (`pending`)."""

    status: str
    config: str | None = None
    pending: str | None = None
    reason: str | None = None
    changed_at: datetime | None = None

    @property
    def is_out_of_capacity(self) -> bool:
        """Whether it failed, or went back, because AWS had no machine of its type."""
        return any(words in (self.reason or "") for words in NO_CAPACITY)


@dataclass(frozen=True)
class Observation:
    """Everything that decides a run's next step. What a stage does not need is not read, and stays None.

    `files` are the names in the run's folder. `tuned` is tuning.json, and `trial_evaluation` the evaluation of its best
    trial. `rival` is a newer run of the dataset that the endpoint serves or will serve. `machine` is the instance type
    that was last asked for, and `asked_at` when, while the endpoint has not answered. `room` is read before the tuning.
    `trouble` is trouble.json: a call that has failed since. `result` is how the run has ended; of a run that was
    approved after its end it is how it ended then. Once the final training has ended, `live` is the run that the
    endpoint serves or soon will, `comparison` what the training found of its model and that one, and `baseline` what it
    measured without tuning.
    """

    run: Run
    now: datetime
    files: frozenset[str]
    dataset: dict[str, Any] | None = None
    tuning: Tuning | None = None
    tuned: dict[str, Any] | None = None
    training: Training | None = None
    trial_evaluation: dict[str, Any] | None = None
    live: str | None = None
    comparison: dict[str, Any] | None = None
    baseline: dict[str, Any] | None = None
    decision: dict[str, Any] | None = None
    endpoint: Endpoint | None = None
    rival: str | None = None
    machine: str | None = None
    asked_at: datetime | None = None
    room: Room | None = None
    waiting: dict[str, Any] | None = None
    trouble: dict[str, Any] | None = None
    stop: dict[str, Any] | None = None
    result: dict[str, Any] | None = None

    @property
    def stage(self) -> str:
        """The status of the run while it is on its way."""
        if "decision.json" in self.files:
            return "deploying"
        if "tuning.json" in self.files:
            return "training"
        return "tuning" if self.tuning else "checking"

    @property
    def is_approved(self) -> bool:
        """Whether a person had the model deployed that the rules did not deploy."""
        return APPROVAL in self.files

    @property
    def report(self) -> str:
        """The name of the run's report: an approved run gets a second one, since no file is written twice."""
        return "report-2.html" if self.is_approved else "report.html"

    @property
    def status(self) -> str:
        if self.result:
            return str(self.result["status"])
        return "waiting" if self.wait_reason else self.stage

    @property
    def facts(self) -> Facts:
        """What the list of runs shows of an ended run; nothing before its end."""
        result, dataset = self.result or {}, self.dataset or {}
        if not result:
            return Facts()
        accuracy = ((result.get("metrics") or {}).get("test") or {}).get("accuracy")
        spent = (result.get("cost") or {}).get("spent_usd")
        images, classes = dataset.get("images"), dataset.get("classes")
        return Facts(accuracy, images, len(classes) if classes else None, round(result["seconds"]), spent)

    @property
    def reached(self) -> tuple[str, ...]:
        """The stages that have begun on AWS: also one that was launched at the moment of the run's end."""
        begun = {
            "tuning": is_own(self.tuning) or "tuning.json" in self.files,
            "training": is_own(self.training) or "decision.json" in self.files,
            "deploying": self.was_requested,
        }
        known = (self.result or {}).get("reached", ())
        return tuple(stage for stage in STAGES if begun[stage] or stage in known)

    @property
    def is_watched(self) -> bool:
        """Whether the run has ended and a look that began before may still launch a job."""
        return is_watched(self.result, self.files)

    @property
    def next_launch(self) -> str | None:
        """What is to be launched next on AWS; None while something runs."""
        if "decision.json" in self.files:
            return None if self.requested else f"deploying {self.deployment_number}"
        if "tuning.json" in self.files:
            if self.training is None:
                return "training"
            return f"training {self.training.number + 1}" if self.training.is_out_of_capacity else None
        return None if self.tuning else "tuning"

    @property
    def wait_reason(self) -> str | None:
        """What the run waits for: the month's cap, or a quota of the account. The wait of an earlier launch is over."""
        waiting = self.waiting or {}
        return waiting.get("reason") if not self.result and waiting.get("for") == self.next_launch else None

    @property
    def trial_types(self) -> tuple[str, ...]:
        """The instance types of the trials; empty if the run pinned none."""
        return self.run.list_pinned_types("trial")

    @property
    def training_types(self) -> tuple[str, ...]:
        """The instance types of the final training that are left to try; empty if the run pinned none."""
        pinned = self.run.list_pinned_types("training")
        used = self.training.instance_type if self.training else None
        return pinned[pinned.index(used) + 1 :] if used in pinned else pinned

    @property
    def endpoint_types(self) -> tuple[str, ...]:
        """The instance types of the endpoint that are left to try; empty for a serverless one.

        If a look was killed before it recorded which type it asked for, the first one counts as tried.
        """
        pinned = self.run.list_pinned_types("endpoint")
        if self.machine in pinned:
            return pinned[pinned.index(self.machine) + 1 :]
        return pinned[1:] if self.was_requested else pinned

    @property
    def deployment_number(self) -> int:
        """The number of the current or next deployment: one more than those for which AWS had no machine."""
        return 1 + sum(name.startswith("no-machine-") for name in self.files)

    @property
    def requested(self) -> bool:
        """Whether the endpoint was asked to serve this run, and AWS did not lack the machine for it."""
        return name_deployment(self.deployment_number) in self.files

    @property
    def was_requested(self) -> bool:
        """Whether the endpoint was ever asked to serve this run."""
        return name_deployment(1) in self.files

    @property
    def created_at(self) -> datetime:
        return datetime.fromisoformat(self.run.created_at)


def can_be_approved(seen: Observation) -> bool:
    """Return whether a person may still have the run's model deployed."""
    return not seen.is_approved and (seen.result or {}).get("status") in APPROVABLE


def is_own(job: Tuning | Training | None) -> bool:
    """Return whether there is a job, and it is the run's own."""
    return job is not None and job.status != FOREIGN


def is_watched(result: dict[str, Any] | None, files: Collection[str]) -> bool:
    """Return whether an ended run may still get a job, by its result.json and its files."""
    return bool(result) and (result or {})["status"] in WATCHED and "decision.json" not in files


def name_deployment(number: int) -> str:
    """Return the file that records a request for the endpoint: the first one, or one on another type of machine."""
    return "deployment.json" if number == 1 else f"deployment-{number}.json"
