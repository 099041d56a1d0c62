"""Keep an account in memory, with everything that the control plane meets in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools import Logger

from chalicelib.aws.auth import Tokens
from chalicelib.aws.buckets import Bucket
from chalicelib.aws.logs import Logs
from chalicelib.aws.publishing import Publisher
from chalicelib.aws.sagemaker import Runtime, SageMaker
from chalicelib.aws.scaling import Scaling
from chalicelib.aws.secrets import Secrets
from chalicelib.runs.folder import Runs
from chalicelib.services import Services
from chalicelib.settings import Settings
from tests.fakes.autoscaling import FakeAutoscaling
from tests.fakes.clients import Client, FakeClock, Trouble, Turn
from tests.fakes.comparisons import build_comparison, build_test
from tests.fakes.others import FakeEvents, FakeLogs, FakeRuntime, FakeSecrets, FakeSns
from tests.fakes.s3 import FakeS3
from tests.fakes.sagemaker import FakeSageMaker

BUCKET = "pictures"
OUTCOMES = {"better": (30, 10), "even": (18, 18), "worse": (8, 32)}  # images right with the new, the live model alone
SETTINGS = Settings(
    bucket=BUCKET,
    execution_role_arn="arn:aws:iam::123456789012:role/whippet",
    tokens_secret_id="whippet/tokens",
    training_image_cpu="123456789012.dkr.ecr.us-east-1.amazonaws.com/training:1-cpu",
    training_image_gpu="123456789012.dkr.ecr.us-east-1.amazonaws.com/training:1-gpu",
    inference_image_cpu="123456789012.dkr.ecr.us-east-1.amazonaws.com/inference:1-cpu",
    inference_image_gpu="123456789012.dkr.ecr.us-east-1.amazonaws.com/inference:1-gpu",
    code_uri=f"s3://{BUCKET}/code/sourcedir-0.tar.gz",
    topic_arn="arn:aws:sns:us-east-1:123456789012:whippet",
)


Hear = Callable[[Client, str, dict[str, Any]], None]
OBJECTIVE = "FinalHyperParameterTuningJobObjectiveMetric"
LOG = Logger(service="tests", level="CRITICAL")


class World:
    """An account. The profiled training reaches `score`, the trials `trial_scores`; `hear` is called for every call.

    Beside a live model it leaves a comparison in which it is better, even or worse, or None.
    """

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.settings = settings
        self.lock = Turn()
        self.clock, self.trouble, self.page = FakeClock(), Trouble(), 1000
        self.s3, self.sagemaker = FakeS3(self), FakeSageMaker(self)
        self.autoscaling = FakeAutoscaling(self)
        self.events, self.sns = FakeEvents(self), FakeSns(self)
        self.secrets, self.runtime, self.logs = FakeSecrets(self), FakeRuntime(self), FakeLogs(self)
        self.score: float | None = 0.95
        self.trial_scores: list[float | None] = [0.80, 0.93]
        self.against_live: str | None = "better"
        self.ids = 0
        self.hear: Hear = lambda client, operation, request: None

    def services(self) -> Services:
        """Return what a fresh function is given."""
        return Services(
            settings=self.settings,
            runs=Runs(Bucket(self.s3, self.settings.bucket)),
            sagemaker=SageMaker(self.sagemaker),
            runtime=Runtime(self.runtime.with_patience),
            scaling=Scaling(lambda: self.autoscaling),
            logs=Logs(lambda: self.logs),
            publisher=Publisher(self.events, self.sns, self.settings.topic_arn),
            tokens=Tokens(Secrets(self.secrets), self.settings.tokens_secret_id, self.clock),
            clock=self.clock,
            log=LOG,
            make_id=self.make_id,
        )

    def make_id(self) -> str:
        self.ids += 1
        return f"id-{self.ids}"

    def upload(self, name: str, body: bytes) -> None:
        self.s3.store(f"datasets/{name}", body)

    def read(self, key: str) -> Any:
        return json.loads(self.s3.versions[key][-1].body)

    def list_keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.s3.versions if key.startswith(prefix))

    def end_tuning(self, run_id: str, status: str = "Completed", reason: str | None = None) -> None:
        """End the trials with `trial_scores`; None is a trial that failed."""
        job = self.sagemaker.kept["HyperParameterTuningJob"][run_id]
        trials = [self._make_trial(run_id, number, score) for number, score in enumerate(self.trial_scores, 1)]
        self.sagemaker.trials[run_id] = trials
        measured = [trial for trial in trials if trial["TrainingJobStatus"] == "Completed"]
        job["HyperParameterTuningJobStatus"] = status
        lost = len(trials) - len(measured)
        job["ObjectiveStatusCounters"] = {"Succeeded": len(measured), "Pending": 0, "Failed": lost}
        if measured:
            job["BestTrainingJob"] = max(measured, key=lambda trial: trial[OBJECTIVE]["Value"])
        if reason:
            job["FailureReason"] = reason

    def _make_trial(self, run_id: str, number: int, score: float | None) -> dict[str, Any]:
        name = f"{run_id}-{number:03d}-0123abcd"
        trial: dict[str, Any] = {
            "TrainingJobName": name,
            "TrainingJobStatus": "Failed" if score is None else "Completed",
            "TunedHyperParameters": {"learning_rate": f"0.{number}", "_tuning_objective_metric": "valid:score"},
            "TrainingStartTime": self.clock.now(),
            "TrainingEndTime": self.clock.now(),
        }
        if number == 1:  # stopped early, and so it could not remove what it would have gone on from
            self.s3.store(f"runs/{run_id}/jobs/{name}/checkpoint.pt", b"state")
        if score is None:
            return trial | {"FailureReason": f"AlgorithmError: trial {number} broke"}
        self.write_evaluation(run_id, name, score)
        self.write_model(run_id, name)
        return trial | {OBJECTIVE: {"MetricName": "valid:score", "Value": score}}

    def write_model(self, run_id: str, job: str) -> None:
        self.s3.store(f"runs/{run_id}/output/{job}/output/model.tar.gz", b"model")

    def write_evaluation(self, run_id: str, job: str, score: float) -> None:
        objective = {"name": "valid:score", "value": score, "standard_error": 0.02, "images": 100}
        evaluation = {"format": 1, "objective": objective, "valid": {"accuracy": score}, "test": {"accuracy": score}}
        self.s3.store(f"runs/{run_id}/jobs/{job}/evaluation.json", json.dumps(evaluation).encode())

    def end_training(self, run_id: str, status: str = "Completed", reason: str | None = None) -> None:
        job = self.sagemaker.kept["TrainingJob"][f"{run_id}-train"]
        job["TrainingJobStatus"] = status
        if reason:
            job["FailureReason"] = reason
        if status != "Failed":
            self.write_model(run_id, f"{run_id}-train")
        if self.score is not None and status != "Failed":
            self.write_evaluation(run_id, f"{run_id}-train", self.score)
            self.write_comparison(run_id, f"{run_id}-train", self.against_live)

    def write_comparison(self, run_id: str, job: str, outcome: str | None) -> None:
        """Leave the comparison with the live model that the job was told of, if it was told of one."""
        live = self.sagemaker.kept["TrainingJob"][job].get("HyperParameters", {}).get("live_run")
        if live and outcome:
            comparison = build_comparison(build_test("new", 300, *OUTCOMES[outcome]), run=live)
            self.s3.store(f"runs/{run_id}/jobs/{job}/comparison.json", json.dumps(comparison).encode())

    def end_deployment(self, name: str, status: str = "InService", reason: str | None = None) -> None:
        """Let the endpoint serve its new config; with a reason, the config that it served before."""
        endpoint = self.sagemaker.kept["Endpoint"][name]
        pending = endpoint.pop("PendingDeploymentSummary", None)
        if pending and status == "InService" and not reason:
            endpoint["EndpointConfigName"] = pending["EndpointConfigName"]
        endpoint["EndpointStatus"], endpoint["LastModifiedTime"] = status, self.clock.now()
        if reason:
            endpoint["FailureReason"] = reason

    def end_everything(self) -> list[tuple[str, str]]:
        """End everything that runs: well, or stopped if it was asked to stop. Returns (kind, name) of each change."""
        changed = []
        for title, end in (("HyperParameterTuningJob", self.end_tuning), ("TrainingJob", self._end_train)):
            for name, job in self.sagemaker.kept[title].items():
                status = job[f"{title}Status"]
                if status in ("InProgress", "Stopping"):
                    end(name, "Completed" if status == "InProgress" else "Stopped")
                    changed.append((title, name))
        return changed + self.end_deployments()

    def end_deployments(self) -> list[tuple[str, str]]:
        """Every endpoint that is on its way serves. Returns (kind, name) of each."""
        changed = []
        for name, endpoint in self.sagemaker.kept["Endpoint"].items():
            if endpoint["EndpointStatus"] in ("Creating", "Updating"):
                self.end_deployment(name)
                changed.append(("Endpoint", name))
        return changed

    def is_at_rest(self) -> bool:
        """Return whether no run is active and nothing that SageMaker keeps is on its way."""
        under_way = ("InProgress", "Stopping", "Creating", "Updating")
        kinds = ("HyperParameterTuningJob", "TrainingJob", "Endpoint")
        statuses = {each[f"{kind}Status"] for kind in kinds for each in self.sagemaker.kept[kind].values()}
        return not self.list_keys("active/") and statuses.isdisjoint(under_way)

    def end_deletions(self) -> None:
        """What SageMaker deletes is gone after a while."""
        kept = self.sagemaker.kept["Endpoint"]
        for name in [name for name, endpoint in kept.items() if endpoint["EndpointStatus"] == "Deleting"]:
            del kept[name]

    def _end_train(self, job: str, status: str) -> None:
        self.end_training(job.removesuffix("-train"), status)
