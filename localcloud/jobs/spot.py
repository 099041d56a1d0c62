"""What a job meets on the market for instances: whether there are any, and whether they are taken back.

Both come from `localcloud.common.faults`. An on-demand job fails without capacity, a spot job waits for it; its
MaxWaitTimeInSeconds counts from when it got its cores here, for the queue before that is this machine's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from localcloud.common.faults import ReadFaults
from localcloud.common.store import Record

NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. "
    "Please retry using a different ML instance type or after some time."
)


class Market:
    """The instances of one job, from its start to its end."""

    def __init__(self, job: Record, faults: ReadFaults, measure: Callable[[], float] = time.monotonic) -> None:
        self.spot: bool = job["EnableManagedSpotTraining"]
        self.interruptions = 0
        self._name: str = job["TrainingJobName"]
        self._kind: str = job["ResourceConfig"]["InstanceType"]
        self._limits = job["StoppingCondition"]
        self._faults, self._measure = faults, measure
        self._since = measure()
        self._ran = 0.0
        self._running_since: float | None = None

    def is_lacking(self) -> bool:
        """Whether there is no instance for the job now."""
        return self._kind in self._faults().list_lacking(spot=self.spot)

    def begin(self) -> None:
        """The program runs from now on."""
        self._running_since = self._measure()

    def end(self) -> None:
        """The program has ended, for now at least."""
        self._ran, self._running_since = self._count_running(), None

    def find_excess(self) -> str | None:
        """The secondary status of the limit that the job has reached: of what it ran, or of what it ran and waited."""
        if self._count_running() >= self._limits["MaxRuntimeInSeconds"]:
            return "MaxRuntimeExceeded"
        longest = self._limits.get("MaxWaitTimeInSeconds") if self.spot else None
        return "MaxWaitTimeExceeded" if longest is not None and self._measure() - self._since >= longest else None

    def take_back(self) -> bool:
        """Whether the instance is taken back now; then it counts as an interruption."""
        taken = self.spot and self._faults().is_interrupted(self._name, self._count_life(), self.interruptions)
        self.interruptions += taken
        return taken

    def _count_running(self) -> float:
        return self._ran + self._count_life()

    def _count_life(self) -> float:
        """The seconds that the program of now has run."""
        return self._measure() - self._running_since if self._running_since is not None else 0.0
