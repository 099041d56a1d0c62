"""Faults planted in the control plane, one at a time: what the simulation must find. Each breaks one promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from chalicelib.aws.buckets import Bucket
from chalicelib.aws.sagemaker import Kind, SageMaker
from chalicelib.runs.folder import Runs
from chalicelib.runs.identity import Run
from tests.histories.chaos.account import Alter
from tests.histories.chaos.faults import Focus


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


class TrustingRuns(Runs):
    """Lets every model through."""

    def write_file(self, run_id: str, name: str, document: dict[str, Any]) -> bool:
        trusted = {"promotion": None, "declined": None} if name == "decision.json" else {}
        return super().write_file(run_id, name, document | trusted)


class UnmarkedRuns(Runs):
    """Begins a run without the marker by which the schedule finds it."""

    def create(self, run: Run) -> bool:
        return self.write_file(run.run_id, "run.json", vars(run))


class CrashingRuns(Runs):
    """Takes it for granted that a run is there."""

    def get(self, run_id: str) -> Run:
        return {run.run_id: run for run in (self.find(run_id),) if run}[run_id]


class KeepingSageMaker(SageMaker):
    """Does not delete models."""

    def delete(self, kind: Kind, name: str) -> bool:
        return True if kind is Kind.MODEL else super().delete(kind, name)


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


@dataclass(frozen=True)
class Planted:
    """A fault: what it puts into the services, the sentence that gives it away, and where other faults must fall."""

    alter: Alter
    sentence: str
    focus: Focus | None = None


PLANTED = {
    "a file is written twice": Planted(with_bucket(OverwritingBucket), r"gets .+ \d+ times"),
    "a notification goes out at every sweep": Planted(with_bucket(ForgetfulBucket), r"SNS gets .+ \d+ times"),
    "a change of the ledger is lost": Planted(
        with_bucket(UnconditionalBucket), r"no ledger has|'reserved'", Focus("put_object", "ledger/")
    ),
    "a file is left of a dataset": Planted(with_bucket(StingyBucket), r"is left of the deleted dataset"),
    "two deployments hold one lease": Planted(
        with_bucket(SharedLeaseBucket), r"is deployed \d times", Focus("update_endpoint")
    ),
    "a run ends without a reason": Planted(with_runs(SilentRuns), r"with the reason None"),
    "a model goes live unseen": Planted(with_runs(TrustingRuns), r"takes the place of"),
    "a run has no marker": Planted(with_runs(UnmarkedRuns), r"never ends"),
    "a run that is gone crashes a function": Planted(with_runs(CrashingRuns), r"KeyError"),
    "a model is not deleted": Planted(
        with_sagemaker(KeepingSageMaker), r"Model .+ is left of the deleted dataset", Focus("publish")
    ),
    "a trial is not billed": Planted(with_sagemaker(ShortSightedSageMaker), r"SageMaker bills"),
}
