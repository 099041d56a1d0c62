"""Make steps only to time them, and compare two series of such times. Nothing learnt in them is kept."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import torch
from images.data import Batches
from learning.engine import Learner
from learning.replaying import Snapshot as Snapshot

from profiler.timeline import Step, describe, make_timeline

# A setting is taken only if it shortens the step by more than this, and by more than the noise as well.
LEAST_GAIN = 0.05
WARM_UP = 1
STEPS = 2
ROUNDS = 2


@dataclass(frozen=True)
class Probe:
    """Timed steps: their seconds by phase, their images, and how much of the granted cores was used, in per cent."""

    steps: tuple[Step, ...]
    images: tuple[int, ...]
    cpu: float

    @property
    def seconds(self) -> list[float]:
        return [sum(step.values()) for step in self.steps]

    @property
    def mean(self) -> float:
        """Return the seconds of a step."""
        return sum(self.seconds) / max(1, len(self.steps))

    def share(self, *phases: str) -> float:
        """Return the share of the time that these phases took."""
        return sum(step[phase] for step in self.steps for phase in phases) / max(sum(self.seconds), 1e-9)

    def join(self, other: Probe) -> Probe:
        cpu = (self.cpu * len(self.steps) + other.cpu * len(other.steps)) / max(1, len(self.steps) + len(other.steps))
        return Probe(self.steps + other.steps, self.images + other.images, cpu)

    def describe(self) -> dict[str, Any]:
        """Return `before` or `after` of execution_plan.json: as in timeline.json, with the cores' utilisation."""
        # Every step counts: the warm-up steps were not kept.
        content = describe((dict.fromkeys(self.steps[0], 0.0), *self.steps), (0, *self.images)) if self.steps else {}
        names = ("phases", "step_ms", "images_per_second")
        return {**{name: content[name] for name in names if name in content}, "cpu_utilization": round(self.cpu, 1)}


def make_steps(
    learner: Learner,
    batches: Batches,
    steps: int,
    *,
    warm_up: int = WARM_UP,
    threads: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Probe:
    """Make `steps` timed steps on the first batches of the first epoch, after some warm-up steps that do not count."""
    timeline = make_timeline(learner.device, clock)
    timeline.every = 1
    timeline.attach(learner)
    batches.mark = timeline.mark
    learner.set_training()
    source = draw(batches)
    begun = read_clocks()
    try:
        for number, (inputs, labels) in zip(range(warm_up + steps), source, strict=False):
            timeline.mark("data")
            learner.learn(inputs, labels)
            if learner.was_replayed:
                timeline.count = len(labels)
                timeline.mark("backward")
            timeline.end_step()
            if number + 1 == warm_up:
                begun = read_clocks()
        timeline.mark("begin")
        wall, used = (after - before for after, before in zip(read_clocks(), begun, strict=True))
    finally:
        source.close()
        timeline.detach()
        batches.mark = lambda _: None
    kept = slice(warm_up, None)
    return Probe(tuple(timeline.steps[kept]), tuple(timeline.images[kept]), 100 * used / max(wall * threads, 1e-9))


def draw(batches: Batches) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches forever, epoch after epoch, always starting with the same ones."""
    source = chain.from_iterable(batches.of_epoch(epoch) for epoch in count(1))
    yield from source


def read_clocks() -> tuple[float, float]:
    """Return seconds on the wall clock and seconds of this process's cores."""
    return time.perf_counter(), time.process_time()


def compare_interleaved(
    change: Callable[[], None], undo: Callable[[], None], measure: Callable[[], Probe], rounds: int = ROUNDS
) -> tuple[Probe, Probe]:
    """Measure without and with a change in turn, A B A B: (all of A, all of B). Ends without the change.

    Whatever drifts meanwhile (other jobs, heat, the system's caches) affects both alike.
    """
    before, after = Probe((), (), 0.0), Probe((), (), 0.0)
    for _ in range(rounds):
        before = before.join(measure())
        change()
        try:
            after = after.join(measure())
        finally:
            undo()
    return before, after


def weigh(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """Compare seconds a step: (gain, noise), both as parts of `before`; noise is two standard errors of the gain."""
    mean = statistics.fmean(before)
    gain = 1 - statistics.fmean(after) / mean
    errors = [statistics.variance(values) / len(values) if len(values) > 1 else mean**2 for values in (before, after)]
    return gain, 2 * math.sqrt(sum(errors)) / mean


def is_worth_taking(gain: float, noise: float) -> bool:
    return gain - noise > LEAST_GAIN


def count_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
