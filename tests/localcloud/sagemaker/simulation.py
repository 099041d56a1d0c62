"""A SageMaker in simulated time: months of tuning in milliseconds, and every fault at will.

    world = World(tmp_path); world.create_tuning(...); world.run()

Jobs are curves: a function of the hyperparameters and the job's name gives what the job would print and how it ends.
Nothing is patched: clock and job runner are the arguments that the cloud takes.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from localcloud.common.faults import Faults
from localcloud.common.store import Record, Store
from localcloud.protocol.service_model import find_operation, parse_request, serialise
from localcloud.sagemaker.app import OPERATIONS
from localcloud.sagemaker.core.cloud import Cloud, JobReport, Outcome
from localcloud.sagemaker.training.jobs import resume_training_jobs
from localcloud.sagemaker.tuning.jobs import resume_tuning_jobs
from tests.localcloud.sagemaker_support import build_training_request


class SimulatedClock:
    """Time that jumps to the next call. Calls of the same moment are made in the order of their making."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 1, tzinfo=UTC)
        self._calls: list[tuple[datetime, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        return self.moment

    def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)

    def call_later(self, seconds: float, function: Callable[..., Any], *args: Any) -> None:
        heapq.heappush(self._calls, (self.moment + timedelta(seconds=seconds), next(self._order), function, args))

    def run(self, calls: int | None = None) -> int:
        """Make calls until none is left, or so many; returns how many were made."""
        for made in itertools.count():
            if not self._calls or made == calls:
                return made
            moment, _, function, args = heapq.heappop(self._calls)
            self.moment = max(self.moment, moment)
            function(*args)
        raise AssertionError("never reached")


COMPLETED = Outcome("Completed")


@dataclass(frozen=True)
class Course:
    """What a simulated job does: the objective's values, one every `step` seconds, and then its outcome."""

    values: Sequence[float] = (0.5,)
    outcome: Outcome = COMPLETED
    step: float = 10.0


@dataclass
class SimulatedRunner:
    """Runs jobs by their courses, at most `slots` at a time; the others wait."""

    clock: SimulatedClock
    course: Callable[[Record], Course]
    slots: int = 1000
    metric: str = "valid:score"
    started: list[str] = field(default_factory=list)
    most_at_once: int = 0
    _running: dict[str, JobReport] = field(default_factory=dict)
    _waiting: list[tuple[Record, JobReport]] = field(default_factory=list)

    def start(self, job: Record, report: JobReport) -> None:
        if job["TrainingJobStatus"] == "Stopping":
            self.clock.call_later(0, report.finish, Outcome("Stopped"))
            return
        self._waiting.append((job, report))
        self.clock.call_later(0, self._admit)

    def stop(self, name: str) -> None:
        for item in [item for item in self._waiting if item[0]["TrainingJobName"] == name]:
            self._waiting.remove(item)
            self._running[name] = item[1]
        self.clock.call_later(1, self._end, name, Outcome("Stopped"))

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self.slots:
            job, report = self._waiting.pop(0)
            name, course = job["TrainingJobName"], self.course(job)
            self.started.append(name)
            self._running[name] = report
            self.most_at_once = max(self.most_at_once, len(self._running))
            report.enter_stage("Downloading")
            report.enter_stage("Training")
            for number, value in enumerate(course.values, 1):
                self.clock.call_later(number * course.step, self._print, name, report, value)
            end = (len(course.values) + 1) * course.step
            self.clock.call_later(end, self._end, name, course.outcome)

    def _print(self, name: str, report: JobReport, value: float) -> None:
        if name in self._running:
            report.add_metrics([(self.metric, value)])

    def _end(self, name: str, outcome: Outcome) -> None:
        report = self._running.pop(name, None)
        if report is not None:
            report.finish(outcome)
        self._admit()


class World:
    """A cloud in simulated time whose state is on disk, so that it can be killed and started again."""

    def __init__(self, home: Path, course: Callable[[Record], Course] = lambda _: Course(), slots: int = 1000) -> None:
        self.home, self.course, self.slots = home, course, slots
        self.events: list[dict[str, Any]] = []
        self.faults = Faults()
        self.start_cloud(SimulatedClock())

    def start_cloud(self, clock: SimulatedClock) -> None:
        self.clock = clock
        self.runner = SimulatedRunner(clock, self.course, self.slots)
        self.cloud = Cloud(clock, Store(self.home), self.runner, self.events.append, faults=lambda: self.faults)

    def kill_and_restart(self) -> None:
        """Forget all that is not on disk: running jobs, timers, calls that were due."""
        clock = SimulatedClock()
        clock.moment = self.clock.moment
        self.start_cloud(clock)
        resume_training_jobs(self.cloud)
        resume_tuning_jobs(self.cloud)

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """An operation without HTTP, checked by the service model on the way in and out."""
        model = find_operation("sagemaker", operation)
        answer = OPERATIONS[operation](self.cloud, parse_request(model, request)) or {}
        if model.output_shape is not None:
            serialise(model.output_shape, answer)
        return answer

    def tune(self, name: str = "tuning", **changes: Any) -> dict[str, Any]:
        """Create a tuning job and run the world until nothing is left to happen; returns its description."""
        self.call("CreateHyperParameterTuningJob", **build_tuning_request(name, **changes))
        self.clock.run()
        return self.describe(name)

    def describe(self, name: str = "tuning") -> dict[str, Any]:
        return self.call("DescribeHyperParameterTuningJob", HyperParameterTuningJobName=name)

    def children(self, name: str = "tuning") -> list[dict[str, Any]]:
        """Summaries of all children, in the order of their names."""
        answer = self.call(
            "ListTrainingJobsForHyperParameterTuningJob", HyperParameterTuningJobName=name, MaxResults=100
        )
        summaries: list[dict[str, Any]] = answer["TrainingJobSummaries"]
        return summaries


def build_tuning_request(
    name: str, code: str = "s3://training/code.tar.gz", output: str = "s3://training/out", **changes: Any
) -> dict[str, Any]:
    """A CreateHyperParameterTuningJob request: 6 trials, 2 at a time.

    Changes: `strategy`, `jobs`, `parallel`, `ranges`, `static` (hyperparameters), `objective` (its Type), `limits`,
    `config` (further members of the configuration), `request` (of the request)."""
    job = build_training_request("unused", code, output)
    jobs = changes.get("jobs", 6)
    limits = {"MaxParallelTrainingJobs": changes.get("parallel", min(2, jobs or 2))} | changes.get("limits", {})
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": {
            "Strategy": changes.get("strategy", "Bayesian"),
            "HyperParameterTuningJobObjective": {
                "Type": changes.get("objective", "Maximize"),
                "MetricName": "valid:score",
            },
            "ResourceLimits": limits | ({"MaxNumberOfTrainingJobs": jobs} if jobs is not None else {}),
            "ParameterRanges": changes.get("ranges", RANGES),
            "RandomSeed": 7,
            **changes.get("config", {}),
        },
        "TrainingJobDefinition": {
            "StaticHyperParameters": job["HyperParameters"] | changes.get("static", {}),
            **{key: job[key] for key in ("AlgorithmSpecification", "RoleArn", "OutputDataConfig", "ResourceConfig")},
            "StoppingCondition": job["StoppingCondition"],
        },
        **changes.get("request", {}),
    }


RANGES = {
    "ContinuousParameterRanges": [
        {"Name": "learning_rate", "MinValue": "0.1", "MaxValue": "10", "ScalingType": "Logarithmic"},
    ],
    "CategoricalParameterRanges": [{"Name": "batch_size", "Values": ["16", "32", "64"]}],
}
