"""SageMaker as it moves by itself: jobs start, run and end one way or another; endpoints come, change and go."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.fakes.clients import fail
from tests.fakes.sagemaker import ACCOUNT, FakeSageMaker
from tests.fakes.world import OBJECTIVE

if TYPE_CHECKING:
    from tests.histories.chaos.account import Account

ENDED = ("Completed", "Failed", "Stopped")
NO_MACHINE = "CapacityError: Unable to provision requested ML compute capacity."
SPOT_SHARE = 0.4  # of a job's seconds are billed on a spot machine
TUNING, TRAINING, ENDPOINT = "HyperParameterTuningJob", "TrainingJob", "Endpoint"
Emit = Callable[[str, str], None]


class LivingSageMaker(FakeSageMaker):
    """SageMaker whose jobs and endpoints move by chance. `emit` is told the kind and name of whatever has changed.

    `spread` shortens the range of times: the smaller it is, the more happens at once.
    `deployed` counts how often an endpoint was asked to serve a config, `undone` how often that failed, and `moves`
    lists from which config to which one an endpoint was moved.
    """

    def __init__(self, account: Account, dice: random.Random) -> None:
        super().__init__(account)
        self.account, self.dice = account, dice
        self.emit: Emit = lambda kind, name: None
        self.spread = 1.0
        self.moving = 0
        self.deployed: Counter[str] = Counter()
        self.undone: Counter[str] = Counter()
        self.moves: list[tuple[str, str]] = []
        self.created: Counter[tuple[str, str]] = Counter()

    def _later(self, least: float, most: float, act: Callable[[], None]) -> None:
        """Let something move after a while: short times are as likely as long ones."""
        self.moving += 1
        longest = least + (most - least) * self.spread
        seconds = math.exp(self.dice.uniform(math.log(least), math.log(longest)))
        self.account.scheduler.call_later(seconds, partial(self._move, act))

    def _move(self, act: Callable[[], None]) -> None:
        self.moving -= 1
        act()

    def _tell(self, kind: str, name: str) -> None:
        changed = self.kept[kind].get(name, {})
        changed["LastModifiedTime"] = self.world.clock.now()
        status = changed.get(f"{kind}Status", "gone")
        self.account.trace.add(f"  SageMaker: {kind} {name} is {status}")
        self.emit(kind, name)

    # What is asked of it

    def _create(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        self._check_parts(kind, request)
        answer = super()._create(kind, request)
        name = request[f"{kind}Name"]
        self.created[kind, name] += 1
        self._tell(kind, name)
        match kind:
            case "HyperParameterTuningJob":
                TuningLife(self, name).begin()
            case "TrainingJob":
                self._later(20, 400, partial(self._begin_training, name))
            case "Endpoint":
                self.deployed[request["EndpointConfigName"]] += 1
                self._later(15, 900, partial(self._end_creation, name))
        return answer

    def _check_parts(self, kind: str, request: dict[str, Any]) -> None:
        """Refuse what names a part that is not there, in SageMaker's words."""
        if kind == "Model":
            data = request["PrimaryContainer"]["ModelDataUrl"]
            if data.removeprefix(f"s3://{self.world.settings.bucket}/") not in self.world.s3.versions:
                raise fail("ValidationException", f"Could not find model data at {data}.", "CreateModel")
        elif kind == "EndpointConfig":
            for variant in request["ProductionVariants"]:
                self.find("Model", variant["ModelName"])
        elif kind == ENDPOINT and request["EndpointConfigName"] not in self.kept["EndpointConfig"]:
            arn = f"{ACCOUNT}endpoint-config/{request['EndpointConfigName']}"
            raise fail("ValidationException", f'Could not find endpoint configuration "{arn}".', "CreateEndpoint")

    def _stop(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        name = request[f"{kind}Name"]
        status = self.find(kind, name)[f"{kind}Status"]
        answer = super()._stop(kind, request)
        if status == "InProgress":
            self._tell(kind, name)
            if kind == TUNING:
                self.kept[kind][name]["_life"].stop()
            else:
                self._later(5, 120, partial(self._end_training, name, "Stopped"))
        return answer

    def _delete(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        if kind != ENDPOINT:
            return super()._delete(kind, request)
        name = request["EndpointName"]
        endpoint = self.find(kind, name)
        if endpoint["EndpointStatus"] in ("Creating", "Updating", "Deleting", "RollingBack"):
            raise fail("ValidationException", f'Cannot update in-progress endpoint "{name}".', "DeleteEndpoint")
        self.requests.append(("DeleteEndpoint", request))
        endpoint["EndpointStatus"] = "Deleting"
        self._tell(kind, name)
        self._later(2, 240, partial(self._end_deletion, name))
        return {}

    def do_update_endpoint(self, EndpointName: str, EndpointConfigName: str) -> dict[str, Any]:
        current = self.find(ENDPOINT, EndpointName)["EndpointConfigName"]
        if current not in self.kept["EndpointConfig"]:
            text = f'Could not find endpoint configuration "{ACCOUNT}endpoint-config/{current}".'
            raise fail("ValidationException", text, "UpdateEndpoint")
        answer = super().do_update_endpoint(EndpointName, EndpointConfigName)
        self.moves.append((current, EndpointConfigName))
        self.deployed[EndpointConfigName] += 1
        self._tell(ENDPOINT, EndpointName)
        self._later(15, 900, partial(self._end_update, EndpointName))
        return answer

    def _describe(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in super()._describe(kind, request).items() if name != "_life"}

    def do_list_training_jobs_for_hyper_parameter_tuning_job(self, HyperParameterTuningJobName: str, **_: Any) -> Any:
        self.find(TUNING, HyperParameterTuningJobName)
        names = self.kept[TUNING][HyperParameterTuningJobName]["_life"].trials
        return {"TrainingJobSummaries": [dict(self.kept[TRAINING][name]) for name in names]}

    # What it does by itself

    def _begin_training(self, name: str) -> None:
        job = self.kept[TRAINING][name]
        if job["TrainingJobStatus"] != "InProgress":
            return
        if self.dice.random() < 0.08:
            self.end_job(name, "Failed", NO_MACHINE)
            self._tell(TRAINING, name)
            return
        job["TrainingStartTime"] = self.world.clock.now()
        self._later(60, 3600, partial(self._end_training, name, ""))

    def _end_training(self, name: str, status: str) -> None:
        """End a run's training: completed, failed, or stopped by its time limit or by a person."""
        if self.kept[TRAINING][name]["TrainingJobStatus"] in ENDED:
            return
        status = status or self.dice.choices(ENDED, (8, 1, 1))[0]
        self.end_job(name, status, "AlgorithmError: it broke" if status == "Failed" else None)
        if status == "Completed" or self.dice.random() < 0.3:
            self.leave_files(name, self.dice.uniform(0.5, 1.0))
        self._tell(TRAINING, name)

    def end_job(self, name: str, status: str, reason: str | None = None) -> None:
        """End a training job, with what is billed for it. A job that never started costs nothing."""
        job, now = self.kept[TRAINING][name], self.world.clock.now()
        job["TrainingJobStatus"] = status
        if reason:
            job["FailureReason"] = reason
        if started := job.get("TrainingStartTime"):
            job["TrainingEndTime"] = now
            seconds = math.ceil((now - started).total_seconds())
            job["BillableTimeInSeconds"] = math.ceil(seconds * SPOT_SHARE) if self.dice.random() < 0.5 else seconds

    def leave_files(self, name: str, score: float) -> None:
        """Leave what a job leaves: nearly always the model, mostly an evaluation."""
        run_id = self.kept[TRAINING][name]["OutputDataConfig"]["S3OutputPath"].split("/")[4]
        if self.dice.random() < 0.95:
            self.world.s3.store(f"runs/{run_id}/output/{name}/output/model.tar.gz", b"model")
        if self.dice.random() < 0.9:
            self.world.write_evaluation(run_id, name, score)
            if self.kept[TRAINING][name]["HyperParameters"].get("live_run"):
                outcome = self.dice.choices(("better", "even", "worse", None), (6, 2, 1, 1))[0]
                self.world.write_comparison(run_id, name, outcome)

    def _end_creation(self, name: str) -> None:
        endpoint = self.kept[ENDPOINT][name]
        fate = self.dice.choices(("InService", "no machine", "broken"), (8, 1, 1))[0]
        endpoint["EndpointStatus"] = "InService" if fate == "InService" else "Failed"
        self.undone[endpoint["EndpointConfigName"]] += fate != "InService"
        if fate == "no machine" and self.list_types(ENDPOINT, endpoint):
            endpoint["FailureReason"] = NO_MACHINE
        elif fate != "InService":
            endpoint["FailureReason"] = "The primary container did not pass the ping health check."
        self._tell(ENDPOINT, name)

    def _end_update(self, name: str) -> None:
        """Let the endpoint serve its new config, or go back to the old one with a reason."""
        endpoint = self.kept[ENDPOINT][name]
        pending = endpoint.pop("PendingDeploymentSummary")["EndpointConfigName"]
        endpoint["EndpointStatus"] = "InService"
        endpoint.pop("FailureReason", None)
        fate = self.dice.choices(("InService", "no machine", "broken"), (8, 1, 1))[0]
        self.undone[pending] += fate != "InService"
        if fate == "InService":
            endpoint["EndpointConfigName"] = pending
        elif fate == "no machine" and self.list_types(ENDPOINT, {"EndpointConfigName": pending}):
            endpoint["FailureReason"] = NO_MACHINE
        else:
            endpoint["FailureReason"] = "The primary container did not pass the ping health check."
        self._tell(ENDPOINT, name)

    def _end_deletion(self, name: str) -> None:
        del self.kept[ENDPOINT][name]
        self._tell(ENDPOINT, name)


class TuningLife:
    """The life of one tuning job: its trials, so many at once, each of which ends in its own way."""

    def __init__(self, sagemaker: LivingSageMaker, name: str) -> None:
        self.sagemaker, self.name = sagemaker, name
        self.dice = sagemaker.dice
        self.job = sagemaker.kept[TUNING][name]
        self.job["_life"] = self
        self.trials: list[str] = []

    def begin(self) -> None:
        limits = self.job["HyperParameterTuningJobConfig"]["ResourceLimits"]
        self.most = limits["MaxNumberOfTrainingJobs"]
        for _ in range(limits["MaxParallelTrainingJobs"]):
            self._launch()
        if self.dice.random() < 0.05:
            self.sagemaker._later(100, 3600, partial(self._break, "InternalServerError: We encountered an error."))

    def _launch(self) -> None:
        definition = self.job["TrainingJobDefinition"]
        machine = definition.get("ResourceConfig") or self.dice.choice(
            definition["HyperParameterTuningResourceConfig"]["InstanceConfigs"]
        )
        name = f"{self.name}-{len(self.trials) + 1:03d}-0123abcd"
        self.trials.append(name)
        tuned = {"learning_rate": f"0.{len(self.trials)}", "_tuning_objective_metric": "valid:score"}
        self.sagemaker.kept[TRAINING][name] = {
            **definition,
            "TrainingJobName": name,
            "TrainingJobArn": f"{ACCOUNT}training-job/{name}",
            "TrainingJobStatus": "InProgress",
            "TunedHyperParameters": tuned,
            "HyperParameters": definition["StaticHyperParameters"] | tuned,
            "ResourceConfig": machine,
            "TuningJobArn": self.job[f"{TUNING}Arn"],
            "CreationTime": self.sagemaker.world.clock.now(),
        }
        self.sagemaker._later(20, 300, partial(self._start, name))

    def _find(self, name: str) -> dict[str, Any] | None:
        """Return a trial that has not ended."""
        job = self.sagemaker.kept[TRAINING][name]
        return None if job["TrainingJobStatus"] in ENDED else job

    def _start(self, name: str) -> None:
        if (job := self._find(name)) and job["TrainingJobStatus"] == "InProgress":
            job["TrainingStartTime"] = self.sagemaker.world.clock.now()
            self.sagemaker._later(60, 1200, partial(self._end, name, ""))

    def _end(self, name: str, status: str) -> None:
        job = self._find(name)
        if job is None:
            return
        has_run = "TrainingStartTime" in job
        status = status or self.dice.choices(ENDED, (8, 1, 1))[0]
        self.sagemaker.end_job(name, status, "AlgorithmError: it broke" if status == "Failed" else None)
        score = round(self.dice.uniform(0.5, 1.0), 4)
        if has_run and (status == "Completed" or self.dice.random() < 0.6):
            job[OBJECTIVE] = {"MetricName": "valid:score", "Value": score}
        if status == "Completed" or (has_run and self.dice.random() < 0.5):
            self.sagemaker.leave_files(name, score)
        self._go_on()

    def _go_on(self) -> None:
        status = self.job[f"{TUNING}Status"]
        if status == "InProgress" and len(self.trials) < self.most:
            self._launch()
        elif status not in ENDED and not any(self._find(name) for name in self.trials):
            self._finish("Stopped" if status == "Stopping" else "Completed")

    def stop(self) -> None:
        running = [name for name in self.trials if self._find(name)]
        for name in running:
            self.sagemaker.kept[TRAINING][name]["TrainingJobStatus"] = "Stopping"
            self.sagemaker._later(5, 120, partial(self._end, name, "Stopped"))
        if not running:
            self.sagemaker._later(1, 30, self._go_on)

    def _break(self, reason: str) -> None:
        if self.job[f"{TUNING}Status"] == "InProgress":
            self.job["FailureReason"] = reason
            for name in self.trials:
                if self._find(name):
                    self.sagemaker.end_job(name, "Stopped")
            self._finish("Failed")

    def _finish(self, status: str) -> None:
        self.job[f"{TUNING}Status"] = status
        self.job["HyperParameterTuningEndTime"] = self.sagemaker.world.clock.now() + timedelta()
        jobs = [self.sagemaker.kept[TRAINING][name] for name in self.trials]
        if measured := [each for each in jobs if OBJECTIVE in each and each["TrainingJobStatus"] != "Failed"]:
            self.job["BestTrainingJob"] = max(measured, key=lambda each: float(each[OBJECTIVE]["Value"]))
        self.sagemaker._tell(TUNING, self.name)
