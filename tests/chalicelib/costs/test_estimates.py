"""What a run will cost, and can cost at most: sums that can be checked by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chalicelib.costs.estimates import estimate, fit_limits, price_job, price_worst
from chalicelib.costs.plans import Images, Plan, bound_job, count_images, make_plan
from chalicelib.costs.prices import Prices, find_prices, price_volume, read_prices
from chalicelib.costs.throughput import model_training, model_trial, read_throughput
from chalicelib.recipes.documents import recipe_schema
from chalicelib.recipes.resolving import resolve_recipe
from tests.fakes.world import SETTINGS

REGION = "us-east-1"
DOGS = {"splits": {"train": {"a": 3340, "b": 3340}, "valid": {"a": 835}, "test": {"a": 836}}}


def get_prices() -> Prices:
    prices = find_prices(REGION)
    assert prices
    return prices


def make(document: dict[str, Any] | None = None, **changes: Any) -> Plan:
    """The plan of a run on the dog pictures, on one T4 each."""
    settings = replace(
        SETTINGS, use_spot=False, trial_instance_types=("ml.g4dn.xlarge",), training_instance_types=("ml.g4dn.xlarge",)
    )
    return make_plan(resolve_recipe(document or {}), replace(settings, **changes), 1_132_000_000, DOGS)


def test_the_sums_are_the_parts() -> None:
    """Trials, final training, storage; each job's seconds at its machine's price, and its volume."""
    plan, prices = make({"trials": 4}), get_prices()
    cost = estimate(plan, prices, REGION)
    parts = cost["jobs"].values()
    assert cost["worst_usd"] == pytest.approx(sum(part["worst_usd"] for part in parts))
    assert cost["expected_usd"] == pytest.approx(sum(part["expected_usd"] for part in parts))
    seconds = 4 * bound_job(plan, 3600, 0)
    trials = seconds * 0.7364 / 3600 + price_volume(prices, plan.volume_gb, seconds)
    assert cost["jobs"]["trials"]["worst_usd"] == pytest.approx(trials, abs=1e-4)


def test_each_machine_of_the_last_training_costs_as_long_as_it_lasts() -> None:
    """Two take a shorter time than one, and cost more; a job that was paid for, twice what one machine costs."""
    prices, (one, two) = get_prices(), (make({"instance_count": count, "epochs": 20}) for count in (1, 2))
    alone, together = (estimate(plan, prices, REGION)["jobs"] for plan in (one, two))
    assert together["trials"] == alone["trials"]
    assert together["training"]["worst_usd"] == pytest.approx(2 * alone["training"]["worst_usd"], rel=1e-4)
    assert together["training"]["expected_seconds"] < alone["training"]["expected_seconds"]
    assert together["training"]["expected_usd"] > alone["training"]["expected_usd"]
    job = {"instance_type": "ml.g4dn.xlarge", "billable_seconds": 1000}
    assert price_job({**job, "instance_count": 2}, prices, 50) == 2 * (price_job(job, prices, 50) or 0.0)


def test_a_jobs_bound_has_all_that_comes_on_top_of_its_limit() -> None:
    """Three starts with the download, SIGTERM's two minutes, the upload; and for spot the wait."""
    plan = make()
    assert bound_job(plan, 3600, 600) == 3600 + 3 * (300 + 57) + 60 + 120 + 200
    assert bound_job(replace(plan, spot=True), 3600, 600) == bound_job(plan, 3600, 0) + 600


def test_the_tuning_jobs_limit_bounds_its_trials() -> None:
    """Two at a time for an hour cannot cost what forty trials could."""
    short = {"trials": 40, "parallel_trials": 2, "max_runtime_seconds": {"trial": 3600, "tuning": 3600}}
    seconds = estimate(make(short), get_prices(), REGION)["jobs"]["trials"]["worst_seconds"]
    assert seconds == 2 * (3600 + 357 + 380)


def test_the_dearest_of_the_machines_is_the_worst() -> None:
    """And the first one is what is expected."""
    prices = get_prices()
    one, two = (
        estimate(make(trial_instance_types=types), prices, REGION)
        for types in (("ml.g4dn.xlarge",), ("ml.g4dn.xlarge", "ml.g5.xlarge"))
    )
    assert two["expected_usd"] == one["expected_usd"]
    assert two["worst_usd"] > one["worst_usd"]


def test_spot_is_expected_to_save_and_never_promised_to() -> None:
    """The worst case is at the price on demand."""
    demand, spot = (estimate(make(use_spot=each), get_prices(), REGION) for each in (False, True))
    assert spot["expected_usd"] < 0.6 * demand["expected_usd"]
    assert spot["worst_usd"] > demand["worst_usd"]


@pytest.mark.parametrize("budget", [3.0, 5.0, 8.0])
def test_a_budget_gets_the_longest_limits_that_it_buys(budget: float) -> None:
    """The worst case is just below it."""
    plan = make({"budget_usd": budget})
    limits, problem = fit_limits(plan, get_prices())
    assert problem is None
    assert 0.97 * budget < price_worst(plan, limits, get_prices()) <= budget
    assert limits.trial <= 3600
    assert limits.training <= 14400
    assert limits.tuning <= 86400


def test_a_budget_that_is_large_changes_nothing() -> None:
    """The recipe's own limits hold."""
    plan = make({"budget_usd": 1000})
    assert fit_limits(plan, get_prices()) == (plan.limits, None)


def test_limits_are_never_tightened_below_what_a_job_is_expected_to_take() -> None:
    """Rather the run is refused: it would be paid for, and end nowhere."""
    plan = make({"budget_usd": 1.1})
    limits, problem = fit_limits(plan, get_prices())
    assert limits.trial >= model_trial(plan, "ml.g4dn.xlarge").seconds
    assert "Raise budget_usd" in (problem or "")


def test_an_unknown_region_is_told() -> None:
    """With what to do."""
    cost = estimate(make(), None, "mars-north-1")
    assert (cost["expected_usd"], cost["worst_usd"]) == (None, None)
    assert "mars-north-1" in cost["unknown"]
    assert "make prices" in cost["unknown"]


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ({"kind": "serverless", "memory_mb": 2048}, {"usd_per_hour_idle": 0.0, "usd_per_second_of_work": 0.00004}),
        ({"kind": "instance", "min_instances": 2}, {"usd_per_hour": 0.23, "instances": 2}),
    ],
)
def test_the_endpoint_is_a_rate_beside_the_sums(endpoint: dict[str, Any], told: dict[str, Any]) -> None:
    """Nobody knows how long it will serve."""
    said = estimate(make({"endpoint": endpoint}), get_prices(), REGION)["endpoint"]
    assert {name: said[name] for name in told} == told


def test_missing_splits_are_cut_from_train() -> None:
    """As the training program cuts them, about."""
    assert count_images({"splits": {"train": {"a": 1000}}}) == Images(train=700, valid=150, test=150)
    assert count_images({"splits": {"train": {"a": 100}, "valid": {"a": 7}}}) == Images(train=85, valid=7, test=15)


def test_a_job_costs_its_billable_seconds() -> None:
    """An hour of which spot saved three quarters; the volume was there for the whole hour."""
    job = {"instance_type": "ml.g4dn.xlarge", "billable_seconds": 900, "seconds": 3600}
    prices = get_prices()
    assert price_job(job, prices, 30) == pytest.approx(0.7364 / 4 + price_volume(prices, 30, 3600))
    assert price_job(job | {"instance_type": "ml.x9.large"}, prices, 30) is None


def test_every_architecture_has_its_throughput() -> None:
    """A recipe that is let through can be priced."""
    assert sorted(read_throughput()["architectures"]) == recipe_schema()["properties"]["architecture"]["enum"]


def test_a_heads_epochs_cost_no_pass_through_the_network() -> None:
    """Its job keeps the features of all images, so more epochs take no longer; deeper trainings pay for each."""
    head, deep = ({"ranges": {"fine_tune": [depth]}} for depth in ("head", "last_block"))
    few, many = (model_trial(make(head | {"epochs": epochs}), "ml.g4dn.xlarge").seconds for epochs in (2, 20))
    assert few == many
    few, many = (model_trial(make(deep | {"epochs": epochs}), "ml.g4dn.xlarge").seconds for epochs in (2, 20))
    assert many > few


def test_a_refit_is_paid_for_by_the_final_training() -> None:
    """It trains its images once more, and validation's; trials cost the same, and so does a head alone."""
    plain, again = (make({"epochs": 8, "ranges": {"fine_tune": ["all"]}, "refit": refit}) for refit in (False, True))
    assert model_trial(plain, "ml.g4dn.xlarge") == model_trial(again, "ml.g4dn.xlarge")
    more = model_training(again, "ml.g4dn.xlarge").work - model_training(plain, "ml.g4dn.xlarge").work
    assert 0.3 < more / model_training(plain, "ml.g4dn.xlarge").work < 0.6
    heads = [make({"ranges": {"fine_tune": ["head"]}, "refit": refit}) for refit in (False, True)]
    assert len({model_training(plan, "ml.g4dn.xlarge") for plan in heads}) == 1


def test_every_region_prices_the_machines_of_the_defaults() -> None:
    """A stage that changes no setting knows its costs wherever the file has prices."""
    for region in read_prices()["regions"]:
        prices = find_prices(region)
        assert prices
        assert {*SETTINGS.trial_instance_types, *SETTINGS.training_instance_types} <= prices.training.keys()
        assert set(SETTINGS.endpoint_instance_types) <= prices.hosting.keys()


def test_a_known_training_is_met_within_a_factor() -> None:
    """A head on a frozen ResNet18, 3 epochs of the dog pictures on one T4, was billed 658 s (a student's notebook).

    It decoded each image in each epoch, as we do once; so ours must be expected to take less, and not a tenth of it.
    """
    plan = make({"epochs": 3, "ranges": {"fine_tune": ["head"]}})
    assert 66 < model_trial(plan, "ml.g4dn.xlarge").seconds < 658
    assert model_training(plan, "ml.g4dn.xlarge").seconds > model_trial(plan, "ml.g4dn.xlarge").seconds
