"""Every stage has a limit and ends with a reason: calls that fail for ever, jobs and endpoints that never end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.errors import WhippetError
from chalicelib.pipeline.intake import look_at_dataset
from chalicelib.pipeline.progress import describe_run
from chalicelib.pipeline.sweep import sweep
from tests.fakes.clients import fail
from tests.fakes.world import World
from tests.support.pictures import build_small_zip

ZIP = build_small_zip()
INTERNAL = ("InternalFailure", "An internal failure occurred.")
NO_ROLE = ("ValidationException", "Could not assume role arn:aws:iam::123456789012:role/whippet. Please ensure that…")
DENIED = ("AccessDeniedException", "User: whippet is not authorized to perform: sagemaker:CreateModel")
NO_CONFIG = ("ValidationException", 'Could not find endpoint configuration "arn:aws:sagemaker:x".')
NO_DATA = ("ValidationException", "Could not find model data at s3://pictures/runs/x/output/model.tar.gz.")
NO_ACCESS = ("ValidationException", "Could not access model data at s3://pictures/x. Please ensure that the role…")


def refuse(world: World, operations: tuple[str, ...], error: tuple[str, str]) -> Callable[[], None]:
    """Let operations fail with an error, until what is returned is called."""
    around = world.trouble.around

    def meddle(operation: str, work: Callable[[], Any]) -> Any:
        if operation in operations:
            return around(operation, lambda: raise_error(error, operation))
        return around(operation, work)

    def heal() -> None:
        world.trouble.around = around  # type: ignore[method-assign]

    world.trouble.around = meddle  # type: ignore[method-assign]
    return heal


def raise_error(error: tuple[str, str], operation: str) -> None:
    raise fail(*error, operation)


def begin(world: World) -> None:
    world.upload("dogs.zip", ZIP)
    with contextlib.suppress(WhippetError):
        look_at_dataset("dogs", world.services())


def go_on(world: World, minutes: float, step: float = 10) -> None:
    """Let so much time pass, in which the schedule sweeps and what runs ends."""
    for _ in range(round(minutes / step)):
        sweep(world.services())
        world.end_everything()
        world.clock.sleep(step * 60)


def read_result(world: World) -> dict[str, Any] | None:
    found = [key for key in world.list_keys("runs/") if key.endswith("/result.json")]
    return dict(world.read(found[0])) if found else None


CALLS = [
    "create_hyper_parameter_tuning_job",
    "describe_hyper_parameter_tuning_job",
    "list_training_jobs_for_hyper_parameter_tuning_job",
    "create_training_job",
    "describe_training_job",
    "create_model",
    "create_endpoint_config",
    "create_endpoint",
    "describe_endpoint",
]


@pytest.mark.parametrize("operation", CALLS)
def test_a_call_that_fails_for_a_day_ends_the_run_with_its_reason(operation: str) -> None:
    """Not before: and what still runs by then is stopped, and paid for."""
    world = World()
    heal = refuse(world, (operation,), INTERNAL)
    begin(world)
    go_on(world, 22 * 60, step=60)
    assert read_result(world) is None
    go_on(world, 6 * 60, step=60)
    result = read_result(world)
    assert result is not None
    assert result["status"] == "failed"
    assert "An internal failure occurred" in result["reason"]
    assert "then try again" in result["reason"]
    heal()
    go_on(world, 60)
    assert world.list_keys("active/") == []
    for kind in ("HyperParameterTuningJob", "TrainingJob"):
        jobs = world.sagemaker.kept[kind].values()
        assert all(job[f"{kind}Status"] not in ("InProgress", "Stopping") for job in jobs)
    for month in world.list_keys("ledger/"):
        assert {entry["state"] for entry in world.read(month)["runs"].values()} == {"settled"}


@pytest.mark.parametrize("operation", CALLS)
def test_a_call_that_fails_for_hours_does_no_harm(operation: str) -> None:
    """Once it comes right the run goes on, and the next trouble has its full time again."""
    world = World()
    heal = refuse(world, (operation,), INTERNAL)
    begin(world)
    go_on(world, 20 * 60, step=60)
    heal()
    go_on(world, 60)
    result = read_result(world)
    assert result is not None
    assert result["status"] == "deployed"
    assert [key for key in world.list_keys("runs/") if key.endswith("trouble.json")] == []


def test_two_troubles_apart_are_two() -> None:
    """Twenty hours of the one and twenty of the other are no day of either, as a step was taken between them."""
    world = World()
    heal = refuse(world, ("create_hyper_parameter_tuning_job",), INTERNAL)
    begin(world)
    go_on(world, 20 * 60, step=60)
    heal()
    sweep(world.services())
    heal = refuse(world, ("create_training_job",), INTERNAL)
    go_on(world, 20 * 60, step=60)
    heal()
    go_on(world, 60)
    assert (read_result(world) or {})["status"] == "deployed"


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        ("create_hyper_parameter_tuning_job", NO_ROLE),
        ("create_training_job", NO_ROLE),
        ("create_training_job", DENIED),
        ("create_model", DENIED),
        ("create_model", NO_ACCESS),
        ("create_model", NO_DATA),
        ("create_endpoint", NO_CONFIG),
        ("copy_object", ("AccessDenied", "Access Denied")),
    ],
)
def test_permissions_are_waited_for_and_missed_in_the_end(operation: str, error: tuple[str, str]) -> None:
    """IAM takes minutes to let a deployment's roles be known; what is still missing after half an hour is missing."""
    world = World()
    heal = refuse(world, (operation,), error)
    begin(world)
    go_on(world, 24, step=4)
    assert read_result(world) is None
    heal()
    go_on(world, 60)
    assert (read_result(world) or {})["status"] == "deployed"
    world = World()
    refuse(world, (operation,), error)
    begin(world)
    go_on(world, 60, step=4)
    result = read_result(world)
    assert result is not None
    assert result["status"] == "failed"
    assert error[1][:20] in result["reason"]
    assert "30 minutes" in result["reason"]


def test_a_run_says_what_keeps_it(world: World) -> None:
    """While a call fails, the run's reason is AWS's, and its status is its stage's."""
    refuse(world, ("create_model",), DENIED)
    begin(world)
    go_on(world, 6, step=2)
    [run_id] = [key.split("/")[1] for key in world.list_keys("runs/") if key.endswith("run.json")]
    told = describe_run(run_id, world.services())
    assert told["status"] == "deploying"
    assert "not authorized" in str(told["reason"])


def test_an_endpoint_that_was_created_is_not_called_failed_for_want_of_an_answer() -> None:
    """CreateEndpoint works and is answered with an error, time after time: the run is on the endpoint, and ends so."""
    world = World()
    around = world.trouble.around

    def meddle(operation: str, work: Callable[[], Any]) -> Any:
        if operation == "create_endpoint":
            with contextlib.suppress(Exception):
                around(operation, work)
            return around(operation, lambda: raise_error(INTERNAL, operation))
        return around(operation, work)

    world.trouble.around = meddle  # type: ignore[method-assign]
    begin(world)
    go_on(world, 30 * 60, step=60)
    assert (read_result(world) or {})["status"] == "deployed"


@pytest.mark.parametrize("stage", ["tuning", "training"])
def test_a_job_that_outlives_its_limits_is_stopped(stage: str) -> None:
    """SageMaker should have stopped it a week ago; the run goes on with what it has."""
    world = World()
    begin(world)
    if stage == "training":
        world.end_everything()
        sweep(world.services())
    kind = {"tuning": "HyperParameterTuningJob", "training": "TrainingJob"}[stage]
    for _ in range(12):
        world.clock.sleep(86_400)
        sweep(world.services())
    assert {job[f"{kind}Status"] for job in world.sagemaker.kept[kind].values()} == {"Stopping"}
    go_on(world, 60)
    assert (read_result(world) or {})["status"] == "deployed"


@pytest.mark.parametrize("stage", ["tuning", "training"])
def test_a_job_that_never_ends_ends_the_run(stage: str) -> None:
    """It stays known as long as it bills: the run is active until the job has ended, and is settled then."""
    world = World()
    begin(world)
    if stage == "training":
        world.end_everything()
        sweep(world.services())
    for _ in range(34):
        world.clock.sleep(3 * 86_400)
        sweep(world.services())
    result = read_result(world)
    assert result is not None
    assert result["status"] == "failed"
    assert "beyond its limit" in result["reason"]
    assert world.list_keys("active/")
    go_on(world, 60)
    assert world.list_keys("active/") == []


def test_an_endpoint_that_changes_without_end_ends_the_run() -> None:
    """The reason says since when, and what it does."""
    world = World()
    begin(world)
    for _ in range(2):
        world.end_everything()
        sweep(world.services())
    assert world.sagemaker.count("CreateEndpoint") == 1
    for _ in range(6):
        world.clock.sleep(timedelta(hours=5).total_seconds())
        sweep(world.services())
    result = read_result(world)
    assert result is not None
    assert result["status"] == "failed"
    assert "is Creating since 2026-11-22" in result["reason"]
