"""How a run's cost steers it: estimates, budgets, the monthly cap, waiting, machines that are not available."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.pipeline.advance import advance
from chalicelib.pipeline.intake import look_at_dataset, stop_run
from chalicelib.pipeline.progress import describe_run, list_runs
from chalicelib.pipeline.sweep import sweep
from chalicelib.runs.identity import find_run_of_training
from tests.fakes.world import SETTINGS, World
from tests.support.pictures import build_small_zip

ZIP = build_small_zip()
MONTH = 31 * 86_400
NO_MACHINE = "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different type."


def start(world: World, name: str = "dogs", recipe: object = None) -> str:
    """Upload a dataset and deliver its event."""
    if recipe is not None:
        world.upload(f"{name}.json", json.dumps(recipe).encode())
    world.upload(f"{name}.zip", ZIP)
    return look_at_dataset(name, world.services()) or ""


def make_world(cap: int) -> World:
    """Build an account whose stage may spend so many dollars a month, on demand, on machines without a GPU."""
    types = ("ml.m5.xlarge",)
    settings = replace(SETTINGS, use_spot=False, trial_instance_types=types, training_instance_types=types)
    return World(replace(settings, monthly_cap_usd=cap))


@pytest.fixture
def world() -> World:
    return make_world(200)


def go_on(world: World, run_id: str) -> str:
    world.end_everything()
    return advance(run_id, world.services())


def finish(world: World, run_id: str) -> str:
    return [go_on(world, run_id) for _ in range(3)][-1]


def read_ledger(world: World) -> Any:
    return world.read(world.list_keys("ledger/")[-1])


def test_a_run_knows_what_it_will_cost_before_it_starts(world: World) -> None:
    """run.json, the route and the first notification agree."""
    run_id = start(world)
    cost = world.read(f"runs/{run_id}/run.json")["cost"]
    assert 0 < cost["expected_usd"] < cost["worst_usd"]
    assert cost["prices_date"] == "2026-11-25"
    told = describe_run(run_id, world.services())["cost"]
    assert (told["worst_usd"], told["spent_usd"]) == (cost["worst_usd"], 0.0)
    expected = {name: cost[name] for name in ("expected_usd", "worst_usd")}
    assert world.events.sent[0][1]["cost"] == expected | {"billed": True}


def test_the_meter_counts_billable_seconds(world: World) -> None:
    """The wall clock does not count: billable seconds include spot's saving."""
    run_id = start(world)
    go_on(world, run_id)
    job = world.sagemaker.kept["TrainingJob"][f"{run_id}-train"]
    job |= {"TrainingStartTime": world.clock.now(), "BillableTimeInSeconds": 3600, "TrainingTimeInSeconds": 9000}
    spent = describe_run(run_id, world.services())["cost"]["spent_usd"]
    assert spent == pytest.approx(0.23, abs=0.03)
    assert finish(world, run_id) == "deployed"
    assert world.read(f"runs/{run_id}/settlement.json")["spent_usd"] == pytest.approx(0.23, abs=0.03)
    assert world.events.sent[-1][1]["cost"]["spent_usd"] == pytest.approx(0.23, abs=0.03)
    assert b"(expected $" in world.s3.versions[f"runs/{run_id}/report.html"][-1].body


def test_the_same_dollars_stand_wherever_a_run_is_told_of(world: World) -> None:
    """It is in run.json, in the route during and after the run, in every notification, the result and the report."""
    run_id = start(world)
    cost = world.read(f"runs/{run_id}/run.json")["cost"]
    both = {name: cost[name] for name in ("expected_usd", "worst_usd")}
    told = [describe_run(run_id, world.services())["cost"]]
    go_on(world, run_id)
    world.sagemaker.kept["TrainingJob"][f"{run_id}-train"] |= {
        "TrainingStartTime": world.clock.now(),
        "BillableTimeInSeconds": 7200,
    }
    told.append(describe_run(run_id, world.services())["cost"])
    finish(world, run_id)
    told.append(describe_run(run_id, world.services())["cost"])
    for each in (*told, *(detail["cost"] for _, detail in world.events.sent)):
        assert {name: each[name] for name in both} == both
    assert [name for name, _ in world.events.sent][-1] == "Model Deployed"
    spent = told[-1]["spent_usd"]
    assert spent == pytest.approx(2 * 0.23, abs=0.05)
    assert world.read(f"runs/{run_id}/result.json")["cost"] == both | {"spent_usd": spent}
    report = world.s3.versions[f"runs/{run_id}/report.html"][-1].body.decode()
    sums = f"expected ${both['expected_usd']:,.2f}, at most ${both['worst_usd']:,.2f}"
    assert f"billable seconds, ${spent:,.2f} ({sums})" in report


def test_the_meter_follows_the_billable_seconds_of_trials_that_run(world: World) -> None:
    """While a spot machine is interrupted they do not grow, although the clock goes on."""
    run_id = start(world)
    trial = world._make_trial(run_id, 1, 0.7) | {"TrainingJobStatus": "InProgress", "TrainingEndTime": None}
    world.sagemaker.trials[run_id] = [trial]
    spent = []
    for billable in (600, 1200, 1200):
        world.clock.sleep(900)
        described = trial | {"BillableTimeInSeconds": billable, "ResourceConfig": {"InstanceType": "ml.m5.xlarge"}}
        world.sagemaker.kept["TrainingJob"][trial["TrainingJobName"]] = described
        spent.append(describe_run(run_id, world.services())["cost"]["spent_usd"])
    assert spent[0] == pytest.approx(0.23 / 6, abs=0.01)
    assert spent[1] == pytest.approx(2 * 0.23 / 6, abs=0.01)
    assert spent[2] - spent[1] < 0.005


def test_a_budget_tightens_the_requests_own_limits(world: World) -> None:
    """A dollar buys shorter jobs than the recipe allows, and the worst case stays below it."""
    run_id = start(world, recipe={"budget_usd": 1.8})
    cost = world.read(f"runs/{run_id}/run.json")["cost"]
    assert cost["worst_usd"] <= 1.8
    request = world.sagemaker.kept["HyperParameterTuningJob"][run_id]
    limits = request["HyperParameterTuningJobConfig"]["ResourceLimits"]
    assert limits["MaxRuntimeInSeconds"] == cost["limits"]["tuning"] < 86400
    stopping = request["TrainingJobDefinition"]["StoppingCondition"]
    assert stopping["MaxRuntimeInSeconds"] == cost["limits"]["trial"] < 3600


def test_a_budget_that_cannot_be_kept_is_refused_with_the_sum(world: World) -> None:
    """Nothing is launched."""
    run_id = start(world, recipe={"budget_usd": 0.01})
    result = world.read(f"runs/{run_id}/result.json")
    assert result["status"] == "rejected"
    assert "$0.01" in result["reason"]
    assert "may cost $" in result["reason"]
    assert world.sagemaker.requests == []


@pytest.mark.parametrize(
    ("budget", "cap", "instead"),
    [
        (5.0, 0, "The budget of $5.00 cannot be kept. | Or leave budget_usd out of the recipe."),
        (5.0, 200, "The budget of $5.00 cannot be kept. | Or leave budget_usd out of the recipe."),
        (None, 200, "The stage's cap of $200.00 a month cannot be kept. |(MonthlyCapUsd=0)."),
    ],
)
@pytest.mark.parametrize("where", ["instance type", "region"])
def test_a_run_without_a_price_is_refused_where_dollars_are_limited(
    budget: float | None, cap: int, instead: str, where: str
) -> None:
    """If its machine or its region has no price, it says what is missing and what to do, and launches nothing."""
    world = make_world(cap)
    recipe: dict[str, Any] = {"budget_usd": budget} if budget else {}
    if where == "region":
        world.settings = replace(world.settings, aws_region="mars-north-1")
    else:
        recipe["instance_types"] = {"trial": ["ml.x9.xlarge"]}
    run_id = start(world, recipe=recipe)
    result = world.read(f"runs/{run_id}/result.json")
    assert result["status"] == "rejected"
    begins, ends = instead.split("|")
    assert result["reason"].startswith(begins)
    assert result["reason"].endswith(ends)
    assert "`make prices`" in result["reason"]
    assert ("mars-north-1" if where == "region" else "ml.x9.xlarge") in result["reason"]
    assert world.sagemaker.requests == []
    assert world.list_keys("ledger/") == []


def test_a_run_without_a_price_goes_on_where_no_dollars_are_limited() -> None:
    """So it is in the local cloud, which caps nothing: the run says that its cost is unknown."""
    world = make_world(0)
    run_id = start(world, recipe={"instance_types": {"trial": ["ml.x9.xlarge"]}})
    told = describe_run(run_id, world.services())
    assert (told["status"], told["cost"]["worst_usd"], told["cost"]["spent_usd"]) == ("tuning", None, 0.0)
    assert "ml.x9.xlarge" in told["cost"]["unknown"]
    assert finish(world, run_id) == "deployed"


def test_a_run_beyond_the_months_cap_waits_and_goes_on() -> None:
    """It says what for, and begins when the first run has given back what it did not need."""
    world = make_world(4)
    first, second = start(world, "dogs"), start(world, "cats")
    assert sum(each["usd"] for each in read_ledger(world)["runs"].values()) <= 4
    [listed] = [each for each in list_runs(None, None, world.services())["runs"] if each["run_id"] == second]
    assert listed["status"] == "waiting"
    assert "cap of $4.00" in listed["reason"]
    assert describe_run(second, world.services())["reason"] == listed["reason"]
    assert finish(world, first) == "deployed"
    assert read_ledger(world)["runs"][first]["state"] == "settled"
    sweep(world.services())
    assert finish(world, second) == "deployed"
    assert {each["reason"] for each in list_runs(None, None, world.services())["runs"]} == {None}


def test_a_run_that_waits_begins_when_the_month_turns() -> None:
    """Runs in flight are carried over, so that the new month's cap holds too."""
    world = make_world(4)
    first, second = start(world, "dogs"), start(world, "cats")
    world.clock.sleep(MONTH)
    sweep(world.services())
    ledger = read_ledger(world)
    assert (ledger["month"], list(ledger["runs"]), list(ledger["queue"])) == ("2026-12", [first], [second])
    assert finish(world, first) == "deployed"
    world.clock.sleep(MONTH)
    sweep(world.services())
    assert list(read_ledger(world)["runs"]) == [second]


def test_nobody_overtakes_who_waits() -> None:
    """A cheap run that would fit waits behind an expensive one that came first."""
    world = make_world(4)
    start(world, "dogs")
    dear = start(world, "cats")
    cheap = start(world, "mice", {"trials": 1, "max_runtime_seconds": {"trial": 300, "training": 300}})
    assert describe_run(cheap, world.services())["reason"].count(dear) == 1


def test_a_run_dearer_than_the_cap_is_refused() -> None:
    """Otherwise it would wait for ever."""
    world = make_world(1)
    run_id = start(world)
    result = world.read(f"runs/{run_id}/result.json")
    assert result["status"] == "rejected"
    assert "the stage's cap is $1.00" in result["reason"]


def test_a_waiting_run_that_is_stopped_leaves_the_queue() -> None:
    """No run waits behind it any more."""
    world = make_world(4)
    start(world, "dogs")
    second = start(world, "cats")
    assert stop_run(second, "ann", world.services()) == "stopped"
    world.clock.sleep(400)
    sweep(world.services())
    assert read_ledger(world)["queue"] == {}


def fail_for_capacity(world: World, job: str) -> None:
    world.sagemaker.kept["TrainingJob"][job] |= {"TrainingJobStatus": "Failed", "FailureReason": NO_MACHINE}


def test_a_training_without_a_machine_is_tried_on_the_next_type(world: World) -> None:
    """It gets another name, because SageMaker keeps the first; the model comes from the try that ran."""
    types = ["ml.g4dn.xlarge", "ml.g5.xlarge"]
    run_id = start(world, recipe={"instance_types": {"training": types}})
    assert go_on(world, run_id) == "training"
    fail_for_capacity(world, f"{run_id}-train")
    assert advance(run_id, world.services()) == "training"
    jobs = world.sagemaker.kept["TrainingJob"]
    assert {name: job["ResourceConfig"]["InstanceType"] for name, job in jobs.items()} == {
        f"{run_id}-train": types[0],
        f"{run_id}-2-train": types[1],
    }
    world.write_evaluation(run_id, f"{run_id}-2-train", 0.97)
    world.write_model(run_id, f"{run_id}-2-train")
    jobs[f"{run_id}-2-train"]["TrainingJobStatus"] = "Completed"
    advance(run_id, world.services())
    assert world.read(f"runs/{run_id}/decision.json")["training_job_name"] == f"{run_id}-2-train"
    assert describe_run(run_id, world.services())["training"]["instance_type"] == types[1]


@pytest.mark.parametrize(
    ("job", "run_id"),
    [
        ("whippet-dev-dogs-0123abcd-train", "whippet-dev-dogs-0123abcd"),
        ("whippet-dev-dogs-0123abcd-3-train", "whippet-dev-dogs-0123abcd"),
        ("whippet-dev-train-0123abcd-train", "whippet-dev-train-0123abcd"),
        ("whippet-dev-dogs-0123abcd-003-0123abcd", None),
    ],
)
def test_every_try_of_a_training_is_its_runs(job: str, run_id: str | None) -> None:
    """Each try's event lets the run go on; a trial's name is not mistaken for a training's."""
    assert find_run_of_training(job) == run_id


def test_a_training_without_any_machine_fails_with_the_reason(world: World) -> None:
    """The list limits the tries."""
    run_id = start(world, recipe={"instance_types": {"training": ["ml.g4dn.xlarge"]}})
    go_on(world, run_id)
    fail_for_capacity(world, f"{run_id}-train")
    assert advance(run_id, world.services()) == "failed"
    assert "CapacityError" in world.read(f"runs/{run_id}/result.json")["reason"]
    assert world.sagemaker.count("CreateTrainingJob") == 1
