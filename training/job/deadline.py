"""Decide when a training must end so that its model is uploaded before SageMaker's time limit.

At MaxRuntimeInSeconds SageMaker signals the container's process 1. In AWS's images that is a shell, which forwards no
signal, and two minutes later everything is killed. So the limit travels as the hyperparameter `max_runtime`, and the
program ends itself in time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# What SageMaker counts before the program runs (image, volume, download) and until it sees that the job has ended:
# as much as chalicelib/costs/plans.py reckons for the slowest start, but of a short limit only a part.
START_SECONDS = 300.0
START_SHARE = 0.1
BYTES_A_SECOND = 20e6
# Of the weights' size: the artifact, packed and then uploaded, and a checkpoint (weights, two moments, best weights).
COPIES = 6


class Deadline:
    """The moment by which a training must be closed. A limit of 0 means that there is none."""

    def __init__(self, limit: float, begun: float, size: int, *, clock: Callable[[], float] = time.time) -> None:
        """limit: in seconds. begun: in Unix seconds, with the time of a job's earlier lives taken off. size: of the
        weights, in bytes.
        """
        self.limit, self.begun, self.size, self.clock = limit, begun, size, clock

    def is_near(self, closing: float) -> bool:
        """Return whether the time left is needed to close the training. closing: the seconds that this takes."""
        return self.limit > 0 and self.clock() - self.begun >= self.limit - self.reserve(closing)

    def reserve(self, closing: float) -> float:
        """Return the seconds to keep free at the end: to start, to close, and to upload what was made."""
        start = min(START_SECONDS, START_SHARE * self.limit)
        return start + closing + COPIES * self.size / BYTES_A_SECOND


class Ending:
    """Whether the training must end now: because it was asked to, or because its time limit is near."""

    def __init__(self, asked: Callable[[], bool], deadline: Deadline, closing: Callable[[], float]) -> None:
        self.asked, self.deadline, self.closing = asked, deadline, closing

    def __call__(self) -> bool:
        return self.asked() or self.is_out_of_time()

    def has_time(self, seconds: float) -> bool:
        """Return whether so many seconds are left beside what closing takes, and nobody asked for an end."""
        return not (self.asked() or self.deadline.is_near(self.closing() + seconds))

    def is_out_of_time(self) -> bool:
        return self.deadline.is_near(self.closing())
