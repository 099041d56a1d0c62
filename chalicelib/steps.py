"""What is seen of a run, and the steps it can take: the two sides of `decisions.decide`. Plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.runs import Run

FOREIGN = "Foreign"  # the status of a job that has this run's name and is not of this run


@dataclass(frozen=True)
class Trial:
    """A training job of the tuning job. `objective` is None where none was measured."""

    name: str
    status: str
    hyperparameters: dict[str, str]
    objective: float | None = None
    reason: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Tuning:
    """The tuning job. `trials` are told once it has ended."""

    status: str
    best: str | None = None
    trials: tuple[Trial, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Training:
    """The profiled training job, and what it wrote of itself."""

    status: str
    reason: str | None = None
    evaluation: dict[str, Any] | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Endpoint:
    """The dataset's endpoint: what serves now (`config`) and what is to serve soon (`pending`)."""

    status: str
    config: str | None = None
    pending: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Observation:
    """All that decides a run's next step. What a stage does not need is not looked at, and stays None.

    `files` are the names in the run's folder. `tuned` is tuning.json and `trial_evaluation` what its best trial wrote.
    `rival` is a newer run of the dataset that the endpoint is on, or on its way to.
    """

    run: Run
    now: datetime
    files: frozenset[str]
    dataset: dict[str, Any] | None = None
    tuning: Tuning | None = None
    tuned: dict[str, Any] | None = None
    training: Training | None = None
    trial_evaluation: dict[str, Any] | None = None
    endpoint: Endpoint | None = None
    rival: str | None = None
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
    def status(self) -> str:
        return str(self.result["status"]) if self.result else self.stage

    @property
    def requested(self) -> bool:
        """Whether the endpoint was asked to serve this run."""
        return "deployment.json" in self.files

    @property
    def created_at(self) -> datetime:
        return datetime.fromisoformat(self.run.created_at)


@dataclass(frozen=True)
class Pin:
    """Copy the dataset's version to the run's input."""


@dataclass(frozen=True)
class Inspect:
    """Check the dataset before anything is launched."""


@dataclass(frozen=True)
class StartTuning:
    """Create the tuning job."""


@dataclass(frozen=True)
class StopTuning:
    """Stop the tuning job, since a person stopped the run."""


@dataclass(frozen=True)
class RecordTuning:
    """Write down how the tuning ended."""

    document: dict[str, Any]


@dataclass(frozen=True)
class StartTraining:
    """Create the training job with the best trial's hyperparameters."""

    best: dict[str, str]


@dataclass(frozen=True)
class StopTraining:
    """Stop the training job, since a person stopped the run."""


@dataclass(frozen=True)
class Select:
    """Write down which model is shipped."""

    document: dict[str, Any]


@dataclass(frozen=True)
class Deploy:
    """Create model and config, and create the endpoint or move it to them."""

    update: bool


@dataclass(frozen=True)
class DeleteEndpoint:
    """Clear away a failed endpoint, which nothing but a deletion can mend."""


@dataclass(frozen=True)
class RecordDeployment:
    """Write down that the endpoint was asked to serve this run, as a look that was killed could not."""


@dataclass(frozen=True)
class Finish:
    """Write down how the run ended."""

    status: str
    reason: str | None = None
    reached: tuple[str, ...] = ()


@dataclass(frozen=True)
class WriteReport:
    """Write the run's report: the job's own, with the verdict filled in."""


@dataclass(frozen=True)
class Close:
    """Nothing is left to do."""


@dataclass(frozen=True)
class Wait:
    """Something else has to happen first; its event, or the sweep, brings the next look."""

    reason: str


Step = (
    Pin
    | Inspect
    | StartTuning
    | StopTuning
    | RecordTuning
    | StartTraining
    | StopTraining
    | Select
    | Deploy
    | DeleteEndpoint
    | RecordDeployment
    | Finish
    | WriteReport
    | Close
    | Wait
)
