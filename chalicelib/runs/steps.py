"""Define the steps that a run can take: the side of `decisions.decide` that comes out. Plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Pin:
    """Copy the dataset's version to the run's input."""


@dataclass(frozen=True)
class Inspect:
    """Check the dataset before anything is launched."""


@dataclass(frozen=True)
class EstimateCost:
    """Add to run.json what the run will cost, and the time limits that keep it within its budget."""


@dataclass(frozen=True)
class Reserve:
    """Reserve the run's worst case in the month's ledger."""


@dataclass(frozen=True)
class Hold:
    """Write what the run waits for; the sweep looks again. `kind` is a key of `decisions.WAIT_LIMITS`."""

    reason: str
    kind: str


@dataclass(frozen=True)
class StartTuning:
    """Create the tuning job."""


@dataclass(frozen=True)
class StopTuning:
    """Stop the tuning job, because a person stopped the run."""


@dataclass(frozen=True)
class RecordTuning:
    """Write how the tuning ended to tuning.json."""

    document: dict[str, Any]


@dataclass(frozen=True)
class StartTraining:
    """Create the training job with the best trial's hyperparameters, on the first of `types` that is available.

    `number` counts the tries. Without `types` the settings' types are used.
    """

    best: dict[str, str]
    number: int = 1
    types: tuple[str, ...] = ()


@dataclass(frozen=True)
class StopTraining:
    """Stop the training job, because a person stopped the run."""


@dataclass(frozen=True)
class Select:
    """Write which model ships to decision.json."""

    document: dict[str, Any]


@dataclass(frozen=True)
class Deploy:
    """Create model and config, and create the endpoint or move it to them."""

    update: bool


@dataclass(frozen=True)
class DeleteEndpoint:
    """Delete a failed endpoint: SageMaker allows nothing else."""


@dataclass(frozen=True)
class RecordDeployment:
    """Write that the endpoint was asked to serve this run, because the look that asked was killed before it could."""


@dataclass(frozen=True)
class TryElsewhere:
    """Write that AWS had no machine of the endpoint's type, so that the next type is asked for."""

    reason: str


@dataclass(frozen=True)
class Scale:
    """Scale the endpoint as the run that it serves asks for."""


@dataclass(frozen=True)
class Finish:
    """Write how the run ended to result.json."""

    status: str
    reason: str | None = None
    reached: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settle:
    """Write what the run has cost, and give back the rest of its reservation."""


@dataclass(frozen=True)
class WriteReport:
    """Write the run's report: the job's own page with the verdict filled in."""


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
    | EstimateCost
    | Reserve
    | Hold
    | StartTuning
    | StopTuning
    | RecordTuning
    | StartTraining
    | StopTraining
    | Select
    | Deploy
    | DeleteEndpoint
    | RecordDeployment
    | TryElsewhere
    | Scale
    | Finish
    | Settle
    | WriteReport
    | Close
    | Wait
)
