"""Plan a training that has no setting to try: its own first steps tell what a probe would, and cost nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from job.metrics import log
from learning.engine import Hook, Learner, Stopped
from learning.preparation import Course, Setup

from profiler.execution_plan import Budget, Gauge, advise, describe_plan, keep_plan, list_larger
from profiler.probing import Probe, Snapshot, read_clocks
from profiler.timeline import Timeline

SEEN = 2  # steps that tell, after the first, which pays for one-time work; torch's profiler slows later ones


class Observer(Hook):
    """Write the plan as soon as the profiler has timed enough steps. It comes after the profiler's own hook.

    others: the hooks that must not take the steps with larger batches, which are only timed, for the training's own.
    """

    def __init__(
        self,
        setup: Setup,
        job_folder: Path,
        course: Course,
        timeline: Timeline,
        stop_asked: Callable[[], bool] = lambda: False,
    ) -> None:
        self.setup, self.folder, self.course, self.timeline = setup, job_folder, course, timeline
        self.stop_asked = stop_asked
        self.others: Sequence[Hook] = ()
        self.learner: Learner | None = None
        self.begun: tuple[float, float] | None = None
        self.done = False

    def on_start(self, learner: Learner) -> None:
        self.learner = learner

    def on_step(self, _epoch: int, _step: int) -> None:
        self.begun = self.begun or read_clocks()
        if not self.done and len(self.timeline.steps) > SEEN:
            self.write(self.recommend)

    def on_end(self) -> None:
        """Describe what there was of a training that had fewer steps."""
        if not self.done and self.timeline.steps:
            self.write(lambda _: [])

    def write(self, recommend: Callable[[Probe], list[dict[str, Any]]]) -> None:
        self.done = True
        try:
            probe, steps = self.read_probe(), self.setup.chosen.epochs * self.course.batches.steps
            keep_plan(self.folder, describe_plan(self.setup, steps, probe, probe, probe, recommend(probe)))
        except Stopped:
            return  # the job's next life makes the plan
        except Exception as error:  # noqa: BLE001  a training is worth more than its plan
            log(f"WARNING: no execution plan: {type(error).__name__}: {error}")

    def read_probe(self) -> Probe:
        """Return the training's steps so far as those of a probe."""
        first = min(1, len(self.timeline.steps) - 1)
        began = self.begun or read_clocks()
        wall, used = (after - before for after, before in zip(read_clocks(), began, strict=True))
        share = 100 * used / max(wall * self.setup.job.threads, 1e-9)
        return Probe(tuple(self.timeline.steps[first:]), tuple(self.timeline.images[first:]), share)

    def recommend(self, probe: Probe) -> list[dict[str, Any]]:
        """Measure larger batches if they could help, and put everything back."""
        if self.learner is None or not list_larger(self.setup, probe):
            return []
        with self.apart(self.learner) as snapshot:
            gauge = Gauge(snapshot, self.setup.job.threads, time.perf_counter, self.stop_asked)
            budget = Budget(self.setup.chosen.epochs * self.course.batches.steps * probe.mean)
            return advise(self.setup, self.course, probe, gauge, budget)

    @contextmanager
    def apart(self, learner: Learner) -> Iterator[Snapshot]:
        """Let what is done here leave no trace in the training, nor in what others see of it."""
        snapshot, sums, mark = Snapshot(learner), learner.tally.read(), self.course.batches.mark
        self.timeline.detach()
        for hook in self.others:
            hook.on_phase("keep")
        try:
            yield snapshot
        finally:
            snapshot.restore()
            learner.tally.begin(*sums)
            for hook in self.others:
                hook.on_phase("train")
            self.timeline.attach(learner)
            self.course.batches.mark, self.timeline.last = mark, self.timeline.clock()
