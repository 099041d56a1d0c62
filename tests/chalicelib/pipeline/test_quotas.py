"""Quotas: a run waits a limited time for what others use, and fails at once with advice if a quota is too small."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.aws.errors import translate
from chalicelib.aws.quotas import CONSOLE
from chalicelib.errors import QuotaExceeded, QuotaTooSmall
from chalicelib.pipeline.advance import advance
from chalicelib.pipeline.intake import look_at_dataset, retry_run
from chalicelib.pipeline.progress import describe_run
from chalicelib.pipeline.sweep import sweep
from tests.fakes.clients import fail
from tests.fakes.world import SETTINGS, World
from tests.support.pictures import build_small_zip

ZIP = build_small_zip()
FIRST, SECOND = "ml.g4dn.xlarge", "ml.g5.xlarge"
ADVICE = "Please use AWS Service Quotas to request an increase for this quota."
USED_UP = (
    "The account-level service limit 'ml.p3.8xlarge for training job usage' is 2 Instances, with current utilization "
    f"of 3 Instances and a request delta of 1 Instances. {ADVICE}"
)
OF_NONE = (
    "The account-level service limit 'ml.m4.xlarge for training job usage' is 0 Instances, with current utilization of "
    f"0 Instances and a request delta of 2 Instances. {ADVICE}"
)
TOO_MANY = (
    "The account-level service limit 'Number of instances across all processing jobs' is 4 Instances, with current "
    f"utilization of 0 Instances and a request delta of 11 Instances. {ADVICE}"
)


@pytest.fixture
def world() -> World:
    return World(replace(SETTINGS, use_spot=False, monthly_cap_usd=0))


def start(world: World, recipe: dict[str, Any] | None = None) -> str:
    world.upload("dogs.json", json.dumps(recipe or {}).encode())
    world.upload("dogs.zip", ZIP)
    return look_at_dataset("dogs", world.services()) or ""


def go_on(world: World, run_id: str) -> str:
    world.end_everything()
    return advance(run_id, world.services())


@pytest.mark.parametrize(
    ("text", "kind", "quota"),
    [
        (USED_UP, QuotaExceeded, "ml.p3.8xlarge for training job usage"),
        (OF_NONE, QuotaTooSmall, "ml.m4.xlarge for training job usage"),
        (TOO_MANY, QuotaTooSmall, "Number of instances across all processing jobs"),
        ("You have reached a limit.", QuotaExceeded, ""),
    ],
)
def test_aws_words_tell_whether_waiting_helps(text: str, kind: type[QuotaExceeded], quota: str) -> None:
    """A used-up limit may free up; one below what is asked for will not. Unknown wording counts as used up."""
    error = translate(fail("ResourceLimitExceeded", text, "CreateTrainingJob"), "CreateTrainingJob dogs")
    assert type(error) is kind
    assert isinstance(error, QuotaExceeded)
    assert error.quota == quota


def test_trials_go_to_the_types_that_have_a_quota(world: World) -> None:
    """The tuning job is asked for again without the type that the refusal names."""
    world.sagemaker.quotas = {FIRST: 0}
    run_id = start(world, {"instance_types": {"trial": [FIRST, SECOND], "training": [FIRST, SECOND]}})
    assert describe_run(run_id, world.services())["status"] == "tuning"
    definition = world.sagemaker.kept["HyperParameterTuningJob"][run_id]["TrainingJobDefinition"]
    assert definition["ResourceConfig"]["InstanceType"] == SECOND
    assert go_on(world, run_id) == "training"
    training = world.sagemaker.kept["TrainingJob"][f"{run_id}-train"]
    assert training["ResourceConfig"]["InstanceType"] == SECOND


def test_a_run_for_which_no_type_has_a_quota_fails_with_what_to_do(world: World) -> None:
    """It fails at once and names each quota, where to raise it, what to change; once raised, it is tried again."""
    world.sagemaker.quotas = {FIRST: 0, SECOND: 0}
    run_id = start(world, {"parallel_trials": 2, "instance_types": {"trial": [FIRST, SECOND]}})
    result = world.read(f"runs/{run_id}/result.json")
    assert result["status"] == "failed"
    assert f"'{FIRST} for training job usage' is 0, and 2 are asked for" in result["reason"]
    assert f"'{SECOND} for training job usage' is 0, and 2 are asked for" in result["reason"]
    assert "parallel_trials" in result["reason"]
    assert CONSOLE in result["reason"]
    assert world.events.sent[-1][0] == "Run Failed"
    assert world.sagemaker.kept["HyperParameterTuningJob"] == {}
    world.sagemaker.quotas = {}
    again = retry_run(run_id, world.services())
    assert describe_run(again, world.services())["status"] == "tuning"


def read_limits(world: World, run_id: str) -> tuple[int, int]:
    """How many trials the tuning job runs at a time, and its time limit."""
    job = world.sagemaker.kept["HyperParameterTuningJob"][run_id]["HyperParameterTuningJobConfig"]["ResourceLimits"]
    return job["MaxParallelTrainingJobs"], job["MaxRuntimeInSeconds"]


def test_below_what_a_run_wants_fewer_trials_run_at_a_time(world: World) -> None:
    """On the type whose quota allows most; the run says so while it tunes and ever after."""
    world.sagemaker.quotas = {FIRST: 1, SECOND: 3}
    run_id = start(world, {"parallel_trials": 4, "instance_types": {"trial": [FIRST, SECOND]}})
    assert read_limits(world, run_id)[0] == 3
    job = world.sagemaker.kept["HyperParameterTuningJob"][run_id]["TrainingJobDefinition"]
    assert job["ResourceConfig"]["InstanceType"] == SECOND
    [note] = describe_run(run_id, world.services())["notes"]
    assert "asks for 4 trials at a time (parallel_trials), and the account allows 3" in note
    assert go_on(world, run_id) == "training"
    assert describe_run(run_id, world.services())["notes"] == [note]


def test_a_quota_of_one_runs_a_default_recipe(world: World) -> None:
    """One trial at a time: nothing has to be changed in the recipe."""
    world.sagemaker.quotas = {FIRST: 1, SECOND: 1}
    run_id = start(world)
    assert read_limits(world, run_id)[0] == 1
    assert describe_run(run_id, world.services())["status"] == "tuning"


def test_a_run_that_gets_all_it_asks_for_has_no_note(world: World) -> None:
    """While it tunes and before."""
    assert describe_run(start(world), world.services())["notes"] == []


def test_a_tuning_that_its_budget_shortened_has_longer_on_fewer_machines(world: World) -> None:
    """The machine hours stay within what was estimated, and the time within what the recipe allows."""
    document = {"budget_usd": 6, "trials": 4, "parallel_trials": 4}
    all_at_once = start(world, document)
    fewer = World(world.settings)
    fewer.sagemaker.quotas = {FIRST: 2, SECOND: 2}
    few_at_once = start(fewer, document)
    (four, short), (two, long) = read_limits(world, all_at_once), read_limits(fewer, few_at_once)
    assert (four, two) == (4, 2)
    assert short < 86_400
    assert short < long <= min(2 * short, 86_400)


@pytest.mark.parametrize(("most", "at_once"), [(0, 12), (10, 10), (100, 12)])
def test_the_accounts_limit_of_parallel_trials_is_kept_from_the_start(world: World, most: int, at_once: int) -> None:
    """As the deployment found it: the estimate reckons with it, and the run says so before its first job."""
    world.settings = replace(world.settings, max_parallel_trials=most)
    run_id = start(world, {"trials": 12, "parallel_trials": 12})
    assert read_limits(world, run_id)[0] == at_once
    assert world.sagemaker.count("CreateHyperParameterTuningJob") == 1
    assert len(describe_run(run_id, world.services())["notes"]) == (most == 10)


def test_a_serverless_endpoint_above_the_accounts_memory_is_refused_before_it_costs(world: World) -> None:
    """With each way out; without the limit, or within it, the run begins."""
    document = {"endpoint": {"memory_mb": 6144}}
    assert describe_run(start(world, document), world.services())["status"] == "tuning"
    limited = World(replace(world.settings, max_serverless_memory_mb=3072))
    run_id = start(limited, document)
    result = limited.read(f"runs/{run_id}/result.json")
    assert result["status"] == "rejected"
    assert "has 6144 MB, and the account allows 3072: set endpoint.memory_mb to 3072" in result["reason"]
    assert limited.sagemaker.kept["HyperParameterTuningJob"] == {}
    machines = World(replace(world.settings, max_serverless_memory_mb=3072))
    run_id = start(machines, {"endpoint": {"kind": "instance"}})
    assert describe_run(run_id, machines.services())["status"] == "tuning"


def test_more_machines_than_the_account_has_are_refused_before_they_cost(world: World) -> None:
    """The trials would be paid for, and the final training could never begin; a recipe's own types nobody asked for."""
    limited = World(replace(world.settings, max_training_instances=2))
    result = limited.read(f"runs/{start(limited, {'instance_count': 3})}/result.json")
    assert result["status"] == "rejected"
    assert "takes 3 machines (instance_count), and the account allows 2 at most of " in result["reason"]
    assert limited.sagemaker.kept["HyperParameterTuningJob"] == {}
    for document in ({"instance_count": 2}, {"instance_count": 3, "instance_types": {"training": [FIRST]}}):
        served = World(replace(world.settings, max_training_instances=2))
        assert describe_run(start(served, document), served.services())["status"] == "tuning"


def test_a_spot_quota_of_none_says_that_machines_on_demand_have_another() -> None:
    """This is what a new account meets first."""
    text = OF_NONE.replace("training job", "spot training job")
    error = translate(fail("ResourceLimitExceeded", text, "CreateTrainingJob"), "CreateTrainingJob dogs")
    assert 'set "spot": false' in str(error)


def test_a_last_training_without_any_quota_fails_with_what_to_do(world: World) -> None:
    """Each type was asked for once."""
    run_id = start(world, {"instance_types": {"training": [FIRST, SECOND]}})
    world.sagemaker.quotas = {FIRST: 0, SECOND: 0}
    assert go_on(world, run_id) == "failed"
    reason = world.read(f"runs/{run_id}/result.json")["reason"]
    assert f"'{FIRST} for" in reason
    assert f"'{SECOND} for" in reason
    assert world.sagemaker.count("CreateTrainingJob") == 2


def test_one_type_that_is_only_used_up_is_waited_for(world: World) -> None:
    """The other can never be had, but this one may free up, so the run waits for it."""
    run_id = start(world, {"instance_types": {"training": [FIRST, SECOND]}})
    world.sagemaker.quotas, world.sagemaker.limits = {FIRST: 0}, {"TrainingJob"}
    assert go_on(world, run_id) == "waiting"
    world.sagemaker.limits = set()
    sweep(world.services())
    [training] = world.sagemaker.kept["TrainingJob"].values()
    assert training["ResourceConfig"]["InstanceType"] == SECOND


def test_a_quota_is_waited_for_two_days(world: World) -> None:
    """Changes in wording do not restart the wait; the reason says until when, and at the end what was in the way."""
    world.sagemaker.limits = {"HyperParameterTuningJob"}
    run_id = start(world)
    began = world.clock.now()
    until = f"until {began.replace(day=began.day + 2):%Y-%m-%d %H:%M} UTC"
    for hours in range(0, 48, 8):
        world.sagemaker.used = hours + 1
        sweep(world.services())
        told = describe_run(run_id, world.services())
        assert told["status"] == "waiting"
        assert until in told["reason"]
        assert f"utilization of {hours + 1}" in told["reason"]
        world.clock.sleep(8 * 3600)
    sweep(world.services())
    result = world.read(f"runs/{run_id}/result.json")
    assert result["status"] == "failed"
    assert result["reason"].startswith("The run gave up after waiting 2 days. ")
    assert "service limit" in result["reason"]
    world.clock.sleep(400)
    sweep(world.services())
    assert world.list_keys("active/") == []


def test_each_launch_has_a_wait_of_its_own(world: World) -> None:
    """The wait before the tuning job does not count towards the wait before the training."""
    world.sagemaker.limits = {"HyperParameterTuningJob"}
    run_id = start(world)
    world.clock.sleep(40 * 3600)
    world.sagemaker.limits = {"TrainingJob"}
    sweep(world.services())
    assert go_on(world, run_id) == "waiting"
    world.clock.sleep(40 * 3600)
    sweep(world.services())
    assert describe_run(run_id, world.services())["status"] == "waiting"
    world.sagemaker.limits = set()
    sweep(world.services())
    assert describe_run(run_id, world.services())["status"] == "training"


def test_the_months_cap_is_waited_for_longer(world: World) -> None:
    """The wait lasts until two months have begun: by then there would have been room."""
    cpu = ("ml.m5.xlarge",)
    world.settings = replace(world.settings, monthly_cap_usd=4, trial_instance_types=cpu, training_instance_types=cpu)
    start(world)
    world.upload("cats.zip", ZIP)
    second = look_at_dataset("cats", world.services()) or ""
    for _ in range(62):
        assert describe_run(second, world.services())["status"] == "waiting"
        world.clock.sleep(86_400)
        sweep(world.services())
    assert world.read(f"runs/{second}/result.json")["status"] == "failed"
    assert "cap of $4.00" in world.read(f"runs/{second}/result.json")["reason"]
