"""Answers that are lost on their way, calls that the SDK repeats by itself, and stops that meet a job's end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest

from chalicelib.pipeline.intake import look_at_dataset, stop_run
from chalicelib.pipeline.sweep import sweep
from chalicelib.runs.claims import release_claim, take_claim
from tests.fakes.world import World
from tests.histories.settling import come_to_rest, go_on
from tests.support.pictures import build_colour_zip

ZIP = build_colour_zip(counts={"train": 3, "valid": 3})
AGAIN = build_colour_zip(seed=1, counts={"train": 3, "valid": 3})
READS = ("get_", "head_", "list_", "describe_")
ONE_OF_EACH = {"HyperParameterTuningJob": 1, "TrainingJob": 1, "Model": 1, "EndpointConfig": 1, "Endpoint": 1}


def go_to_the_end(world: World, rounds: int = 8) -> None:
    """Let the schedule sweep and what runs end, while claims of dead holders expire, until nothing is left to do."""
    come_to_rest(world, rounds)
    sweep(world.services())


def list_histories(world: World, trouble: str) -> Iterator[World]:
    """Yield worlds in which this trouble comes at one call, one after another, of the next five rounds.

    Until that call nothing differs, so each is a copy of what an untroubled world was before the call's round. A call
    that only reads is not repeated: that is no trouble at all.
    """
    for _ in range(5):
        before, begin = deepcopy(world), len(world.trouble.calls)
        go_on(world)
        for number in range(begin, len(world.trouble.calls)):
            if trouble == "repeat" and world.trouble.calls[number].startswith(READS):
                continue
            troubled = deepcopy(before)
            troubled.trouble.plan = {number: trouble}
            yield troubled


def read_ends(world: World) -> dict[str, tuple[str, str | None]]:
    """Return each run's status and reason."""
    results = [world.read(key) for key in world.list_keys("runs/") if key.endswith("/result.json")]
    return {each["run_id"]: (each["status"], each["reason"]) for each in results}


@pytest.mark.parametrize("trouble", ["repeat", "lost", "error", "throttle"])
def test_one_call_in_trouble_changes_nothing(trouble: str) -> None:
    """Whichever call's answer is lost, is repeated by the SDK or refused once: one of everything, deployed."""
    world = World()
    world.upload("dogs.zip", ZIP)
    for troubled in list_histories(world, trouble):
        go_to_the_end(troubled)
        [number] = troubled.trouble.plan
        where = f"call {number}: {troubled.trouble.calls[number]}"
        assert [status for status, _ in read_ends(troubled).values()] == ["deployed"], (where, read_ends(troubled))
        assert {kind: len(kept) for kind, kept in troubled.sagemaker.kept.items()} == ONE_OF_EACH, where
        assert troubled.list_keys("active/") == [], where


@pytest.mark.parametrize("trouble", ["repeat", "lost", "error"])
def test_one_call_of_an_update_in_trouble_changes_nothing(trouble: str) -> None:
    """The same holds for the second version, which moves the endpoint."""
    world = World()
    world.upload("dogs.zip", ZIP)
    go_to_the_end(world, rounds=4)
    world.upload("dogs.zip", AGAIN)
    for troubled in list_histories(world, trouble):
        go_to_the_end(troubled)
        [number] = troubled.trouble.plan
        assert {status for status, _ in read_ends(troubled).values()} == {"deployed"}, troubled.trouble.calls[number]
        assert troubled.sagemaker.count("UpdateEndpoint") <= 2
        assert len(troubled.sagemaker.kept["Endpoint"]) == 1


CREATES = [
    "create_hyper_parameter_tuning_job",
    "create_training_job",
    "create_model",
    "create_endpoint_config",
    "create_endpoint",
]


@pytest.mark.parametrize("operation", CREATES)
def test_a_create_that_the_sdk_repeats_is_the_runs_own(operation: str) -> None:
    """It took effect, its answer was lost, and the SDK met "already existing" or "names must be unique"."""
    world = World()
    world.upload("dogs.zip", ZIP)
    on_call(world, operation, twice=True)
    go_to_the_end(world)
    assert list(read_ends(world).values()) == [("deployed", None)]


@pytest.mark.parametrize("operation", CREATES)
def test_a_strangers_thing_that_comes_first_is_not_taken_over(operation: str) -> None:
    """It appears between the look and the call: the run fails and names it, and the stranger's stays as it is."""
    world = World()
    world.upload("dogs.zip", ZIP)
    run_id = str(look_at_dataset("dogs", World.services(world))) if operation != CREATES[0] else ""
    title = operation.removeprefix("create_").title().replace("_", "")
    endpoint = world.read(f"runs/{run_id}/run.json")["endpoint"] if run_id else ""

    def come_first() -> None:
        run = run_id or world.list_keys("active/")[0].removeprefix("active/")
        name = {"TrainingJob": f"{run}-train", "Endpoint": endpoint}.get(title, run)
        if name not in world.sagemaker.kept[title]:
            request = {"Tags": [{"Key": "whose", "Value": "theirs"}], "EndpointConfigName": "theirs"}
            world.sagemaker._create(title, request | {f"{title}Name": name})

    on_call(world, operation, before=come_first)
    go_to_the_end(world)
    [(status, reason)] = read_ends(world).values()
    assert status == "failed"
    assert "not of " in str(reason)
    assert [each["Tags"][0]["Value"] for each in world.sagemaker.kept[title].values()] == ["theirs"]


def on_call(world: World, operation: str, *, twice: bool = False, before: Callable[[], None] = lambda: None) -> None:
    """Let something happen before each call of an operation, or let the SDK make it twice."""
    around = world.trouble.around

    def meddle(called: str, work: Callable[[], Any]) -> Any:
        if called != operation:
            return around(called, work)
        before()
        if twice:
            around(called, work)
        return around(called, work)

    world.trouble.around = meddle  # type: ignore[method-assign]


def test_a_claim_whose_answer_was_lost_is_held() -> None:
    """S3 wrote it, the SDK repeated the call, and S3 refused the second: the claim is the caller's, not another's."""
    world = World()
    bucket, clock = world.services().bucket, world.clock
    world.trouble.plan = {0: "repeat"}
    first = take_claim(bucket, "lease", "ann", clock.now())
    assert first is not None
    assert take_claim(bucket, "lease", "bob", clock.now()) is None
    release_claim(bucket, first, clock.now())
    world.trouble.plan = dict.fromkeys(range(len(world.trouble.calls), 99), "repeat")
    second = take_claim(bucket, "lease", "bob", clock.now())
    assert second is not None
    assert take_claim(bucket, "lease", "ann", clock.now()) is None


@pytest.mark.parametrize("stage", ["tuning", "training"])
def test_a_stop_that_meets_the_end_of_the_job_is_a_stop(stage: str) -> None:
    """SageMaker refuses it, since the job "is in status Completed": the run looks again, and ends `stopped`."""
    world = World()
    world.upload("dogs.zip", ZIP)
    run_id = str(look_at_dataset("dogs", world.services()))
    if stage == "training":
        world.end_everything()
        sweep(world.services())
    operation = {"tuning": "stop_hyper_parameter_tuning_job", "training": "stop_training_job"}[stage]
    on_call(world, operation, before=lambda: world.end_everything() and None)
    assert stop_run(run_id, "ann", world.services()) == "stopped"
    assert read_ends(world)[run_id] == ("stopped", f"Stopped by ann while {stage}.")


def test_a_stop_that_is_refused_is_not_asked_for_without_end() -> None:
    """While SageMaker describes the job as running, and refuses its stop, one look asks once."""
    world = World()
    world.upload("dogs.zip", ZIP)
    run_id = str(look_at_dataset("dogs", world.services()))
    around = world.trouble.around

    def refuse(called: str, work: object) -> object:
        if called == "stop_hyper_parameter_tuning_job":
            job = world.sagemaker.kept["HyperParameterTuningJob"][run_id]
            job["HyperParameterTuningJobStatus"] = "Completed"
            try:
                return around(called, work)  # type: ignore[arg-type]
            finally:
                job["HyperParameterTuningJobStatus"] = "InProgress"
        return around(called, work)  # type: ignore[arg-type]

    world.trouble.around = refuse  # type: ignore[method-assign,assignment]
    assert stop_run(run_id, "ann", world.services()) == "tuning"
    assert world.sagemaker.count("StopHyperParameterTuningJob") == 1
    world.trouble.around = around  # type: ignore[method-assign]
    go_to_the_end(world)
    assert read_ends(world)[run_id][0] == "stopped"
