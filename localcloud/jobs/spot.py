"""Tell whether a job's instances are available, and whether a spot instance is interrupted.

Both come from `localcloud.common.faults`. Without capacity an on-demand job fails, and a spot job waits. Its
MaxWaitTimeInSeconds counts from when it got its cores, since the queue before that exists only on this machine.
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
        """Return whether no instance is available for the job now."""
        return self._kind in self._faults().list_lacking(spot=self.spot)

    def begin(self) -> None:
        """Note that the program runs from now on."""
        self._running_since = self._measure()

    def end(self) -> None:
        """Note that the program has ended; it may begin again."""
        self._ran, self._running_since = self._count_running(), None

    def find_excess(self) -> str | None:
        """Return the secondary status of the time limit that the job has reached, for running or for waiting too."""
        if self._count_running() >= self._limits["MaxRuntimeInSeconds"]:
            return "MaxRuntimeExceeded"
        longest = self._limits.get("MaxWaitTimeInSeconds") if self.spot else None
        return "MaxWaitTimeExceeded" if longest is not None and self._measure() - self._since >= longest else None

    def take_back(self) -> bool:
        """Return whether the instance is interrupted now. If so, it is counted."""
        taken = self.spot and self._faults().is_interrupted(self._name, self._count_life(), self.interruptions)
        self.interruptions += taken
        return taken

    def _count_running(self) -> float:
        return self._ran + self._count_life()

    def _count_life(self) -> float:
        """Return the seconds that the current program has run."""
        return self._measure() - self._running_since if self._running_since is not None else 0.0
