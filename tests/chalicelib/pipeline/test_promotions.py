"""A dataset is uploaded again: what the final training is given, whether its model goes live, what people approve."""

from __future__ import annotations

import contextlib
import json
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from chalicelib.errors import Conflict, RunNotFound
from chalicelib.models.catalog import delete_model
from chalicelib.pipeline.advance import advance
from chalicelib.pipeline.intake import approve_run, look_at_dataset, retry_run, stop_run
from chalicelib.pipeline.progress import describe_run, list_runs
from chalicelib.pipeline.removal import delete_dataset
from chalicelib.pipeline.sweep import sweep
from tests.events.contract import complaints
from tests.fakes.comparisons import build_comparison, build_floor
from tests.fakes.world import World
from tests.support.pictures import build_small_zip

ZIPS = [build_small_zip(seed) for seed in range(3)]


def upload(world: World, number: int, recipe: dict[str, Any] | None = None) -> str:
    """Upload the dataset's next version and deliver its event."""
    world.clock.sleep(60)
    if recipe is not None:
        world.upload("dogs.json", json.dumps(recipe).encode())
    world.upload("dogs.zip", ZIPS[number])
    return str(look_at_dataset("dogs", world.services()))


def go_on(world: World, run_id: str, rounds: int = 3) -> str:
    for _ in range(rounds):
        world.end_everything()
        status = advance(run_id, world.services())
    return status


def deploy_first(world: World) -> str:
    run_id = upload(world, 0)
    assert go_on(world, run_id) == "deployed"
    return run_id


def upload_again(world: World, outcome: str | None, recipe: dict[str, Any] | None = None) -> tuple[str, str, str]:
    """Deploy a first model, and train a second one that does as well against it. Returns both, and the second's end."""
    first = deploy_first(world)
    world.against_live = outcome
    second = upload(world, 1, recipe)
    return first, second, go_on(world, second)


def read_served(world: World) -> str:
    [endpoint] = world.sagemaker.kept["Endpoint"].values()
    return str(endpoint["EndpointConfigName"])


def find_model(run_id: str) -> str:
    return f"s3://pictures/runs/{run_id}/output/{run_id}-train/output/model.tar.gz"


def list_statuses(world: World) -> list[str]:
    """List the runs' statuses, the newest run first."""
    return [run["status"] for run in list_runs(None, None, world.services())["runs"]]


def read_training(world: World, run_id: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the channels and hyperparameters of a run's final training."""
    job = world.sagemaker.kept["TrainingJob"][f"{run_id}-train"]
    channels = {each["ChannelName"]: each["DataSource"]["S3DataSource"]["S3Uri"] for each in job["InputDataConfig"]}
    return channels, job["HyperParameters"]


def test_the_last_training_is_given_what_it_compares_its_model_with(world: World) -> None:
    """The best trial's model; the live model and its dataset, where one is live; and whose they are."""
    first, second, _ = upload_again(world, "better")
    channels, chosen = read_training(world, first)
    assert channels == {
        "dataset": f"s3://pictures/runs/{first}/input/",
        "trial": f"s3://pictures/runs/{first}/output/{first}-002-0123abcd/output/model.tar.gz",
    }
    assert (chosen["trial_job"], chosen["live_run"]) == (f"{first}-002-0123abcd", "")
    channels, chosen = read_training(world, second)
    assert channels["live_model"] == find_model(first)
    assert channels["live_dataset"] == f"s3://pictures/runs/{first}/input/"
    assert chosen["live_run"] == first


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        ("output/{run}-train/output/model.tar.gz", {"dataset", "trial", "live_dataset"}),
        ("input/dataset.zip", {"dataset", "trial", "live_model"}),
    ],
)
def test_no_channel_is_empty(world: World, gone: str, left: set[str]) -> None:
    """AWS refuses one without files; the live run is named all the same, so that it is told what is gone."""
    first = deploy_first(world)
    second = upload(world, 1)
    del world.s3.versions[f"runs/{first}/{gone.format(run=first)}"]
    go_on(world, second, 1)
    channels, chosen = read_training(world, second)
    assert set(channels) == left
    assert chosen["live_run"] == first


def test_a_live_dataset_that_does_not_fit_on_the_disk_stays_away(world: World) -> None:
    """Both zips lie on the job's volume, and a full disk would fail the training."""
    first = deploy_first(world)
    second = upload(world, 1)
    world.settings = replace(world.settings, volume_gb=0)
    go_on(world, second, 1)
    channels, chosen = read_training(world, second)
    assert "live_dataset" not in channels
    assert (channels["live_model"], chosen["live_run"]) == (find_model(first), first)


@pytest.mark.parametrize(
    ("outcome", "status"), [("better", "deployed"), ("even", "undecided"), ("worse", "declined"), (None, "undecided")]
)
def test_a_model_replaces_the_live_one_only_where_it_is_shown_to_be_no_worse(
    world: World, outcome: str | None, status: str
) -> None:
    """Otherwise the live model stays, the run says why, and nothing was asked of its endpoint."""
    first, second, ended = upload_again(world, outcome)
    assert ended == status
    assert read_served(world) == (second if status == "deployed" else first)
    decision = world.read(f"runs/{second}/decision.json")
    assert decision["promotion"]["compared_with"] == first
    result = world.read(f"runs/{second}/result.json")
    assert status == "deployed" or result["reason"] == decision["promotion"]["sentence"]
    assert status == "deployed" or second not in world.sagemaker.kept["Model"]
    assert world.list_keys("active/") == []


@pytest.mark.parametrize("outcome", ["better", "worse"])
def test_the_report_says_what_changed_since_the_live_model(world: World, outcome: str) -> None:
    """Settings and accuracy beside those of the version that was live, whether the new model replaces it or not."""
    first = upload(world, 0)
    drawn = b"<!-- run --><!-- verdict --><!-- /verdict --><!-- changes -->"
    assert go_on(world, first) == "deployed"
    world.against_live = outcome
    second = upload(world, 1, {"epochs": 11})
    world.s3.store(f"runs/{second}/jobs/{second}-train/report.html", drawn)
    go_on(world, second)
    report = world.s3.versions[f"runs/{second}/report.html"][-1].body.decode()
    assert f"Compared with {first}" in report
    assert "<tr><td>epochs</td><td>8</td><td>11</td></tr>" in report
    assert "objective" not in report  # both settled what is `auto` in their recipes, and alike
    assert report.startswith("Dataset dogs · ")


def test_the_end_is_told(world: World) -> None:
    """By an event and a message that keep to the contract, in the list of runs, and in the report."""
    _, second, _ = upload_again(world, "even")
    name, detail = world.events.sent[-1]
    assert name == "Model Undecided"
    assert complaints("whippet-detail", detail) == []
    assert detail["status"] == "undecided"
    assert list_statuses(world) == ["undecided", "deployed"]
    report = world.s3.versions[f"runs/{second}/report.html"][-1].body.decode()
    assert "Nothing was deployed. The run ended undecided: The live model stays until a person decides." in report


@pytest.mark.parametrize(("when", "status"), [("always", "deployed"), ("ask", "declined")])
def test_the_recipe_decides(world: World, when: str, status: str) -> None:
    """With `always` even a worse model goes live, and says so; with `ask` not even the first does."""
    _, second, ended = upload_again(world, "worse", {"promotion": {"when": when}})
    assert ended == status
    assert "worse by more than 1 point" in world.read(f"runs/{second}/decision.json")["promotion"]["sentence"]
    world.upload("cats.json", json.dumps({"promotion": {"when": when}}).encode())
    world.upload("cats.zip", ZIPS[2])
    assert go_on(world, str(look_at_dataset("cats", world.services()))) == (
        "deployed" if when == "always" else "undecided"
    )


def test_a_first_model_no_better_than_chance_is_declined(world: World) -> None:
    """The verdict's first sentence says so."""
    run_id = upload(world, 0)
    go_on(world, run_id, 1)
    floor = build_comparison(run=None, floor=build_floor(30))
    world.s3.store(f"runs/{run_id}/jobs/{run_id}-train/comparison.json", json.dumps(floor).encode())
    assert go_on(world, run_id) == "declined"
    assert world.sagemaker.kept["Endpoint"] == {}
    report = world.s3.versions[f"runs/{run_id}/report.html"][-1].body.decode()
    assert "<!-- verdict -->The model is not shown to be better than the most frequent class" in report


def test_the_comparison_names_the_candidate_that_ships(world: World) -> None:
    """The final training's artifact holds it, however good the trial's own evaluation is."""
    world.score = 0.5
    run_id = upload(world, 0)
    go_on(world, run_id, 1)
    candidates = [{"candidate": name, "valid": {"objective": value}} for name, value in (("head", 0.9), ("final", 0.8))]
    comparison = build_comparison(run=None) | {"ships": "head", "candidates": candidates}
    world.s3.store(f"runs/{run_id}/jobs/{run_id}-train/comparison.json", json.dumps(comparison).encode())
    assert go_on(world, run_id) == "deployed"
    decision = world.read(f"runs/{run_id}/decision.json")
    assert (decision["ships"], decision["candidate"]) == ("training", "head")
    assert decision["model_data"].endswith(f"{run_id}-train/output/model.tar.gz")
    assert "The model of the fitted head was chosen" in decision["reason"]


# The live model changes between the comparison and the deployment


def test_a_live_model_that_changed_before_the_decision_is_told(world: World) -> None:
    """Two versions train at the same time: the older one goes live, and the newer one was compared with none."""
    older, newer = upload(world, 0), upload(world, 1)
    go_on(world, older, 1)
    go_on(world, newer, 1)
    assert read_training(world, newer)[1]["live_run"] == ""
    assert go_on(world, older, 2) == "deployed"
    assert go_on(world, newer) == "undecided"
    assert read_served(world) == older
    assert older in world.read(f"runs/{newer}/result.json")["reason"]


def test_a_live_model_that_changed_after_the_decision_is_told(world: World) -> None:
    """The newer run waits for a quota while the older one goes live."""
    older, newer = upload(world, 0), upload(world, 1)
    go_on(world, older, 1)
    go_on(world, newer, 1)
    world.sagemaker.limits = {"Model"}
    world.end_everything()
    advance(newer, world.services())
    assert world.read(f"runs/{newer}/decision.json")["promotion"]["action"] == "deploy"
    world.sagemaker.limits = set()
    assert go_on(world, older) == "deployed"
    assert advance(newer, world.services()) == "undecided"
    assert "changed after this one was judged" in world.read(f"runs/{newer}/result.json")["reason"]
    assert read_served(world) == older


def test_a_live_model_that_was_taken_down_meanwhile_keeps_nothing_back(world: World) -> None:
    """There is none to be worse than; it is told."""
    first = deploy_first(world)
    world.against_live = "worse"
    second = upload(world, 1)
    go_on(world, second, 1)
    delete_model("dogs", world.services())
    world.end_deletions()
    assert go_on(world, second) == "deployed"
    assert first in world.read(f"runs/{second}/decision.json")["promotion"]["sentence"]


# Approvals

WEEKEND = 2 * 86_400.0  # seconds


@pytest.mark.parametrize("outcome", ["even", "worse"])
def test_a_person_has_the_model_deployed_all_the_same(world: World, outcome: str) -> None:
    """Once: asking again changes nothing. The run's first end stays written, and its second one is told like any."""
    _, second, ended = upload_again(world, outcome)
    world.clock.sleep(WEEKEND)
    assert approve_run(second, "ann", world.services()) == "deploying"
    assert approve_run(second, "bob", world.services()) == "deploying"
    assert describe_run(second, world.services())["seconds"] < WEEKEND  # which a person took, and not the run
    assert world.read(f"runs/{second}/approval.json")["by"] == "ann"
    assert list_statuses(world)[0] == "deploying"
    sweep(world.services())
    assert go_on(world, second) == "deployed"
    assert read_served(world) == second
    assert approve_run(second, "bob", world.services()) == "deployed"
    assert world.read(f"runs/{second}/result.json")["status"] == ended
    assert world.read(f"runs/{second}/result-2.json")["status"] == "deployed"
    assert world.read(f"runs/{second}/result-2.json")["seconds"] < WEEKEND
    assert list_statuses(world)[0] == "deployed"
    assert [name for name, _ in world.events.sent][-2:] == ["Deployment Started", "Model Deployed"]
    report = world.s3.versions[f"runs/{second}/report-2.html"][-1].body.decode()
    assert f"After the run had ended {ended}, ann approved the model." in report
    assert describe_run(second, world.services())["approval"]["by"] == "ann"
    assert world.list_keys("active/") == []


def test_an_approval_that_comes_as_the_run_is_closed_is_not_lost(world: World) -> None:
    """Whichever call of the closing look it comes before: the run is approved and active, or the person is told."""
    _, second, _ = upload_again(world, "even")
    world.services().runs.mark_active(world.services().runs.get(second))

    def approve(here: World) -> bool:
        with contextlib.suppress(Conflict):  # the look holds the lease
            approve_run(second, "ann", here.services())
        return True

    outcomes = set()
    for number in range(30):
        here = deepcopy(world)
        here.trouble.other = partial(approve, here)  # type: ignore[assignment]
        here.trouble.plan = {len(here.trouble.calls) + number: "meanwhile"}
        advance(second, here.services())
        is_approved = bool(here.list_keys(f"runs/{second}/approval.json"))
        assert bool(here.list_keys("active/")) == is_approved
        outcomes.add(is_approved)
    assert outcomes == {True, False}


def test_only_what_ended_undecided_or_declined_is_approved(world: World) -> None:
    """The refusal says how the run stands."""
    with pytest.raises(RunNotFound):
        approve_run("whippet-dev-dogs-00000000", "ann", world.services())
    run_id = upload(world, 0)
    with pytest.raises(Conflict, match="is tuning"):
        approve_run(run_id, "ann", world.services())
    stop_run(run_id, "ann", world.services())
    go_on(world, run_id)
    with pytest.raises(Conflict, match="ended stopped"):
        approve_run(run_id, "ann", world.services())
    run_id = retry_run(run_id, world.services())
    go_on(world, run_id)
    with pytest.raises(Conflict, match="ended deployed"):
        approve_run(run_id, "ann", world.services())
    assert [key for key in world.list_keys("runs/") if "approval" in key] == []


def test_an_older_model_does_not_take_the_place_of_a_newer_one(world: World) -> None:
    """The person is told which run is live."""
    _, second, _ = upload_again(world, "even")
    world.against_live = "better"
    third = upload(world, 2)
    assert go_on(world, third) == "deployed"
    with pytest.raises(Conflict, match=third):
        approve_run(second, "ann", world.services())
    assert read_served(world) == third


def test_a_model_that_is_gone_is_not_approved(world: World) -> None:
    """Nothing could be deployed of it."""
    _, second, _ = upload_again(world, "even")
    del world.s3.versions[f"runs/{second}/output/{second}-train/output/model.tar.gz"]
    with pytest.raises(Conflict, match="is gone"):
        approve_run(second, "ann", world.services())


def test_an_approved_run_may_fail_and_be_stopped_like_any(world: World) -> None:
    """It ends once more, with a reason, and the live model stays."""
    first, second, _ = upload_again(world, "even")
    approve_run(second, "ann", world.services())
    assert stop_run(second, "bob", world.services()) == "stopped"
    assert world.read(f"runs/{second}/result-2.json")["reason"].startswith("Stopped by bob")
    assert read_served(world) == first
    with pytest.raises(Conflict, match="was approved, and then ended stopped"):
        approve_run(second, "ann", world.services())
    assert world.read(f"runs/{retry_run(second, world.services())}/run.json")["attempt"] == 2


def test_a_removed_dataset_takes_its_approved_run_along(world: World) -> None:
    """The approved run has not been deployed yet; nothing of it is left."""
    _, second, _ = upload_again(world, "even")
    approve_run(second, "ann", world.services())
    for _ in range(6):
        told = delete_dataset("dogs", world.services())
        world.end_everything()
        world.end_deletions()
        world.clock.sleep(400)
        if told["status"] == "deleted":
            break
    sweep(world.services())
    assert [key for key in world.s3.versions if key.startswith(("runs/", "active/", "models/"))] == []


def test_a_recipe_uploaded_after_an_undecided_run_begins_the_next_attempt(world: World) -> None:
    """As after a declined one."""
    _, second, _ = upload_again(world, "even")
    world.upload("dogs.json", b'{"promotion": {"margin": 0.2}}')
    third = look_at_dataset("dogs", world.services())
    assert third not in (None, second)
    assert go_on(world, str(third)) == "deployed"
