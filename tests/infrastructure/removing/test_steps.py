"""Test removing a stage: jobs and endpoints go in the right order, with waiting and reporting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from infrastructure.account.context import Account, Stage
from infrastructure.errors import CannotDeploy
from infrastructure.removing.steps import WAIT_SECONDS, Removal, delete_serving, is_of, stop_jobs
from tests.support.refusals import refuse


class SageMaker:
    """A fake whose jobs need some looks to stop, and whose endpoint needs some to change and to go."""

    def __init__(self, *, stopping: int = 1, changing: int = 0, going: int = 1, gone_already: bool = False) -> None:
        self.jobs = {"whippet-dev-dogs-train": "InProgress", "whippet-dev2-dogs-train": "InProgress"}
        self.endpoints = ["whippet-dev-dogs", "whippet-dev2-dogs"]
        self.stopping, self.changing, self.going, self.gone_already = stopping, changing, going, gone_already
        self.deleting: list[str] = []
        self.done: list[str] = []

    def get_paginator(self, operation: str) -> Pages:
        return Pages(self, operation)

    def stop_training_job(self, TrainingJobName: str) -> None:
        self.done.append(f"stop {TrainingJobName}")
        self.jobs[TrainingJobName] = "Stopping"
        if self.gone_already:
            raise refuse("The request was rejected because the training job is in status Completed")

    def delete_endpoint(self, EndpointName: str) -> None:
        if self.changing:
            self.changing -= 1
            raise refuse("Cannot update in-progress endpoint")
        self.done.append(f"delete {EndpointName}")
        self.deleting.append(EndpointName)

    def delete_endpoint_config(self, EndpointConfigName: str) -> None:
        self.done.append(f"delete config {EndpointConfigName}")

    def delete_model(self, ModelName: str) -> None:
        self.done.append(f"delete model {ModelName}")

    def list_jobs(self, status: str) -> list[dict[str, str]]:
        found = [{"TrainingJobName": name} for name, held in self.jobs.items() if held == status]
        if status == "Stopping" and found:
            self.stopping -= 1
            if self.stopping <= 0:
                self.jobs = {name: held for name, held in self.jobs.items() if held != "Stopping"}
        return found

    def list_endpoints(self) -> list[dict[str, str]]:
        found = [{"EndpointName": name} for name in self.endpoints]
        if self.deleting:
            self.going -= 1
            if self.going <= 0:
                self.endpoints = [name for name in self.endpoints if name not in self.deleting]
        return found


class Pages:
    """A paginator with one page for each list."""

    def __init__(self, sagemaker: SageMaker, operation: str) -> None:
        self.sagemaker, self.operation = sagemaker, operation

    def paginate(self, **told: Any) -> Iterator[dict[str, Any]]:
        lists: dict[str, Any] = {
            "list_training_jobs": lambda: {"TrainingJobSummaries": self.sagemaker.list_jobs(told["StatusEquals"])},
            "list_hyper_parameter_tuning_jobs": lambda: {"HyperParameterTuningJobSummaries": []},
            "list_endpoints": lambda: {"Endpoints": self.sagemaker.list_endpoints()},
            "list_endpoint_configs": lambda: {"EndpointConfigs": [{"EndpointConfigName": "whippet-dev-dogs-1"}]},
            "list_models": lambda: {"Models": [{"ModelName": "whippet-dev-dogs-1"}, {"ModelName": "whippet-dev2-x"}]},
        }
        yield lists[self.operation]()


class Scaling:
    """One autoscaling target of each stage."""

    def __init__(self) -> None:
        self.removed: list[str] = []

    def get_paginator(self, _operation: str) -> Scaling:
        return self

    def paginate(self, **_told: Any) -> Iterator[dict[str, Any]]:
        keys = {"ServiceNamespace": "sagemaker", "ScalableDimension": "d"}
        names = ("whippet-dev-dogs", "whippet-dev2-dogs")
        yield {"ScalableTargets": [{"ResourceId": f"endpoint/{name}/variant/all", **keys} for name in names]}

    def deregister_scalable_target(self, **told: str) -> None:
        self.removed.append(told["ResourceId"])


def remove(sagemaker: SageMaker, scaling: Scaling | None = None) -> tuple[Removal, list[str], list[float]]:
    clients = {"sagemaker": sagemaker, "application-autoscaling": scaling or Scaling()}
    told: list[str] = []
    slept: list[float] = []
    stage = Stage("whippet", "dev", Account("123456789012", "us-east-1", clients.__getitem__))
    return Removal(stage, told.append, slept.append), told, slept


def test_running_jobs_are_stopped_and_waited_for() -> None:
    """Only the stage's own jobs are stopped."""
    sagemaker = SageMaker(stopping=3)
    work, told, slept = remove(sagemaker)
    stop_jobs(work)
    assert sagemaker.done == ["stop whippet-dev-dogs-train"]
    assert told == ["Stopping TrainingJob whippet-dev-dogs-train"]
    assert sagemaker.jobs == {"whippet-dev2-dogs-train": "InProgress"}
    assert slept


def test_a_job_that_ended_meanwhile_is_no_error() -> None:
    """SageMaker refuses to stop an ended job."""
    sagemaker = SageMaker(gone_already=True)
    stop_jobs(remove(sagemaker)[0])
    assert "whippet-dev-dogs-train" not in sagemaker.jobs


def test_a_job_that_does_not_stop_ends_the_command() -> None:
    """The command gives up after a quarter of an hour and says what to do."""
    work, _told, slept = remove(SageMaker(stopping=1_000_000))
    with pytest.raises(
        CannotDeploy, match=r"Jobs are still stopping: not after 15 minutes\. Run the same command again"
    ):
        stop_jobs(work)
    assert sum(slept) == WAIT_SECONDS


def test_what_serves_goes_from_the_front_to_the_back() -> None:
    """Autoscaling, endpoint, config, model; nothing of a stage whose name has this one's as its beginning."""
    sagemaker, scaling = SageMaker(going=3), Scaling()
    delete_serving(remove(sagemaker, scaling)[0])
    assert scaling.removed == ["endpoint/whippet-dev-dogs/variant/all"]
    assert sagemaker.done == [
        "delete whippet-dev-dogs",
        "delete config whippet-dev-dogs-1",
        "delete model whippet-dev-dogs-1",
    ]
    assert sagemaker.endpoints == ["whippet-dev2-dogs"]


def test_an_endpoint_that_is_being_changed_is_waited_for() -> None:
    """SageMaker deletes no endpoint before its change has finished."""
    sagemaker = SageMaker(changing=2)
    work, _told, slept = remove(sagemaker)
    delete_serving(work)
    assert sagemaker.done[0] == "delete whippet-dev-dogs"
    assert len(slept) >= 2


def test_a_refusal_is_told_in_awss_words() -> None:
    """The message names the page that lists the permissions."""

    class Forbidden(SageMaker):
        def delete_endpoint(self, EndpointName: str) -> None:
            raise refuse("not authorized to perform: sagemaker:DeleteEndpoint", "AccessDeniedException")

    with pytest.raises(CannotDeploy, match=r"Deleting endpoints failed\. AccessDeniedException: .*\n.*docs/aws\.md"):
        delete_serving(remove(Forbidden())[0])


@pytest.mark.parametrize(
    ("name", "ours"),
    [("whippet-dev", True), ("whippet-dev-x", True), ("whippet-development-x", False), ("whippet-dev2-x", False)],
)
def test_a_name_is_the_stages_by_its_whole_words(name: str, ours: bool) -> None:
    """`app-dev-x` is dev's, `app-development-x` is not."""
    assert is_of(name, remove(SageMaker())[0].stage) is ours
