"""Which tuning jobs may be another's parent: SageMaker refuses the whole job for one that may not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.recipes.resolving import resolve_recipe
from chalicelib.requests.jobs import build_tuning_request
from chalicelib.requests.warm_start import ADDED, build_warm_start
from tests.chalicelib.requests.test_jobs import find_faults, make_run
from tests.fakes.world import SETTINGS


def ask(**recipe: Any) -> dict[str, Any]:
    return build_tuning_request(make_run(), resolve_recipe(recipe), SETTINGS)


def describe(**recipe: Any) -> dict[str, Any]:
    """Return an ended tuning job as SageMaker describes it."""
    job = copy.deepcopy(build_tuning_request(make_run("cats"), resolve_recipe(recipe), SETTINGS))
    job["TrainingJobDefinition"]["StaticHyperParameters"][ADDED] = "valid:score"
    return job | {"HyperParameterTuningJobStatus": "Completed", "ObjectiveStatusCounters": {"Succeeded": 3}}


def test_another_version_of_the_same_recipe_is_a_parent() -> None:
    """Run, time limit and the like may differ, ranges too, and SageMaker takes the request's form."""
    request = ask()
    warm = build_warm_start(request, describe(ranges={"learning_rate": {"min": 0.2, "max": 5}}, trials=20))
    assert warm["WarmStartConfig"]["WarmStartType"] == "TransferLearning"
    assert find_faults("CreateHyperParameterTuningJob", request | warm) == []


def test_a_fixed_hyperparameter_may_have_been_tuned() -> None:
    """It is still one of the same hyperparameters."""
    assert build_warm_start(ask(), describe(ranges={"fine_tune": ["head"]}))
    assert build_warm_start(ask(ranges={"fine_tune": ["head"]}), describe())


def without(member: str) -> Callable[[dict[str, Any]], None]:
    def change(job: dict[str, Any]) -> None:
        del job["TrainingJobDefinition"]["StaticHyperParameters"][member]

    return change


def with_changes(count: int) -> Callable[[dict[str, Any]], None]:
    def change(job: dict[str, Any]) -> None:
        static = job["TrainingJobDefinition"]["StaticHyperParameters"]
        for name in list(static)[:count]:
            static[name] = "another"

    return change


REFUSED: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], Any]]] = {
    "still running": ({}, lambda job: job.update(HyperParameterTuningJobStatus="InProgress")),
    "failed": ({}, lambda job: job.update(HyperParameterTuningJobStatus="Failed")),
    "no trial with a value": ({}, lambda job: job.update(ObjectiveStatusCounters={"Succeeded": 0})),
    "another objective": ({"objective": "accuracy"}, lambda job: None),
    "another strategy": ({"strategy": "Random"}, lambda job: None),
    "fewer hyperparameters": ({}, without("seed")),
    "more hyperparameters": ({"labels": "file"}, lambda job: None),
    "another kind of range": ({"ranges": {"learning_rate": {"values": [1, 2]}}}, lambda job: None),
    "too many changes": ({}, with_changes(12)),
    "too many jobs": ({"trials": 750}, lambda job: None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_sagemaker_would_refuse_is_not_asked_for(name: str) -> None:
    """The run then begins its tuning from nothing, as the first one did."""
    recipe, change = REFUSED[name]
    parent = describe(**recipe)
    change(parent)
    assert build_warm_start(ask(), parent) == {}


@pytest.mark.parametrize("strategy", ["Random", "Grid", "Hyperband"])
def test_only_a_bayesian_search_learns_from_a_parent(strategy: str) -> None:
    """Others would not use it."""
    ranges = {"learning_rate": {"values": [1, 2]}, "weight_decay": {"values": [0.1, 0.2]}}
    more = {"ranges": ranges} if strategy == "Grid" else {}
    assert build_warm_start(ask(strategy=strategy, **more), describe(strategy=strategy, **more)) == {}


def test_there_may_be_no_parent() -> None:
    """A first version has none."""
    assert build_warm_start(ask(), None) == {}
