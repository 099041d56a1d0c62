"""Faults planted in the control plane, one at a time: what the simulation must find. Each breaks one promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from chalicelib.aws.buckets import Bucket
from chalicelib.aws.sagemaker import Kind, SageMaker
from chalicelib.runs.folder import Runs
from chalicelib.runs.identity import Run
from chalicelib.services import Services
from tests.chaos.account import Alter


class OverwritingBucket(Bucket):
    """Creates what is there already."""

    def create(self, key: str, body: bytes, content_type: str = "application/json") -> str | None:
        self.write(key, body)
        entry = self.describe(key)
        return entry.etag if entry else None


class ForgetfulBucket(Bucket):
    """Does not keep the marks of notifications that were sent."""

    def create(self, key: str, body: bytes, content_type: str = "application/json") -> str | None:
        return "etag" if "/notices/" in key else super().create(key, body, content_type)


class UnconditionalBucket(Bucket):
    """Replaces what somebody else has changed meanwhile."""

    def replace(self, key: str, body: bytes, etag: str) -> str | None:
        self.write(key, body)
        entry = self.describe(key)
        return entry.etag if entry else None


class StingyBucket(Bucket):
    """Leaves one version of those that it is to delete."""

    def delete_versions(self, versions: Sequence[tuple[str, str]]) -> None:
        super().delete_versions(versions[:-1] or versions)


class SharedLeaseBucket(Bucket):
    """Grants a lease to everybody who asks."""

    def create(self, key: str, body: bytes, content_type: str = "application/json") -> str | None:
        if key.endswith("lease.json"):
            self.write(key, body)
            return "etag"
        return super().create(key, body, content_type)


class SilentRuns(Runs):
    """Writes no reason."""

    def write_file(self, run_id: str, name: str, document: dict[str, Any]) -> bool:
        return super().write_file(run_id, name, document | ({"reason": None} if name == "result.json" else {}))


class UnmarkedRuns(Runs):
    """Begins a run without the marker by which the schedule finds it."""

    def create(self, run: Run) -> bool:
        return self.write_file(run.run_id, "run.json", vars(run))


class CrashingRuns(Runs):
    """Takes it for granted that a run is there."""

    def find(self, run_id: str) -> Run | None:
        if (run := super().find(run_id)) is None and self.list_files(run_id):
            raise KeyError(run_id)
        return run


class RenamingSageMaker(SageMaker):
    """Gives a training job the next name where one is taken."""

    def create(self, kind: Kind, request: dict[str, Any]) -> None:
        number = 2
        while kind is Kind.TRAINING_JOB and self.describe(kind, request["TrainingJobName"]):
            stem = request["TrainingJobName"].removesuffix("-train").removesuffix(f"-{number - 1}")
            request = request | {"TrainingJobName": f"{stem}-{number}-train"}
            number += 1
        super().create(kind, request)

    def describe(self, kind: Kind, name: str) -> dict[str, Any] | None:
        return None if name.endswith("-train") and self._is_asked() else super().describe(kind, name)

    def _is_asked(self) -> bool:
        return False


class KeepingSageMaker(SageMaker):
    """Does not delete endpoints."""

    def delete(self, kind: Kind, name: str) -> bool:
        return True if kind is Kind.ENDPOINT else super().delete(kind, name)


class ShortSightedSageMaker(SageMaker):
    """Does not see the last trial of a tuning job."""

    def list_trials(self, tuning_job: str) -> list[dict[str, Any]]:
        return super().list_trials(tuning_job)[:-1]


def with_bucket(kind: type[Bucket]) -> Alter:
    return lambda services: replace(services, runs=Runs(kind(services.bucket._client, services.bucket.name)))


def with_runs(kind: type[Runs]) -> Alter:
    return lambda services: replace(services, runs=kind(services.bucket))


def with_sagemaker(kind: type[SageMaker]) -> Alter:
    return lambda services: replace(services, sagemaker=kind(services.sagemaker._client))


# What is planted, and the sentence that gives it away.
PLANTED: dict[str, tuple[Callable[[Services], Services], str]] = {
    "a file is written twice": (with_bucket(OverwritingBucket), r"deployed \d times|gets .+ \d+ times"),
    "a notification goes out at every sweep": (with_bucket(ForgetfulBucket), r"gets .+ \d+ times"),
    "a change of the ledger is lost": (with_bucket(UnconditionalBucket), r"ledger"),
    "a file is left of a dataset": (with_bucket(StingyBucket), r"is left of the deleted dataset"),
    "two deployments hold one lease": (with_bucket(SharedLeaseBucket), r"is deployed"),
    "a run ends without a reason": (with_runs(SilentRuns), r"with the reason None"),
    "a run has no marker": (with_runs(UnmarkedRuns), r"never ends"),
    "a run that is gone crashes a function": (with_runs(CrashingRuns), r"KeyError"),
    "an endpoint is not deleted": (with_sagemaker(KeepingSageMaker), r"is left of the deleted dataset|InService with"),
    "a trial is not billed": (with_sagemaker(ShortSightedSageMaker), r"SageMaker bills"),
}
