"""Estimate what a run will cost and can cost at most, in dollars, from its plan and the region's prices. Pure.

`estimate` is written to run.json before the tuning job is requested. `fit_limits` tightens the requests' own time
limits until the worst case fits the recipe's budget. `refine` replaces the model's assumptions by measured trials. The
sums do not include: the endpoint, which is stated beside them as a rate; logs, requests and the functions, which are
cents; the bucket's storage after the first month.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from chalicelib.costs.plans import Limits, Plan, bound_job, bound_trials, write_limits
from chalicelib.costs.prices import SECONDS_AN_HOUR, Prices, explain_missing, price_volume
from chalicelib.costs.throughput import model_training, model_trial, read_throughput

FORMAT = 1
SPOT_SHARE = 0.4  # spot's expected share of the on-demand price
SPOT_REPEATS = 1.05  # work that interruptions are expected to repeat
MIN_TUNING, MIN_JOB, MIN_WAIT = 120, 60, 600  # seconds; no limit is tightened below these
SLACK = 1.5  # a limit stays above this many times a job's expected duration
STEPS = 1000
BOUND_ON_STORED = 0.5e9  # bytes that a job leaves in the bucket, apart from its archive


@dataclass(frozen=True)
class Sum:
    """An expected and a worst amount, in dollars or seconds."""

    expected: float
    worst: float

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.expected + other.expected, self.worst + other.worst)


def estimate(plan: Plan, prices: Prices | None, region: str, cap: float = 0.0) -> dict[str, Any]:
    """Build `cost` of run.json: what the run will cost and can cost at most, per job, and the limits that ensure it.

    `cap` is the stage's monthly cap; 0 means none. `problem` says why the run is refused. `unknown` says why the cost
    is not known, which is a problem only if there is a budget or a cap to keep.
    """
    budget = plan.recipe.budget_usd
    missing = explain_missing(prices, region, (*plan.trial_types, *plan.training_types))
    told: dict[str, Any] = {
        "format": FORMAT,
        "region": region,
        "prices_date": prices.date if prices else None,
        "spot": plan.spot,
        "budget_usd": budget,
        "volume_gb": plan.volume_gb,
        "instance_types": list_types(plan),
        "expected_usd": None,
        "worst_usd": None,
        "jobs": {},
        "limits": write_limits(plan.limits),
        "endpoint": describe_endpoint(plan, prices),
        "unknown": missing,
        "problem": explain_unpriced(missing, budget, cap) if missing else None,
    }
    if prices is None or missing:
        return told
    limits, problem = fit_limits(plan, prices)
    jobs = {
        "trials": _describe(price_trials(plan, limits, prices), time_trials(plan, limits)),
        "training": _describe(price_training(plan, limits, prices), time_training(plan, limits)),
        "storage": _describe(price_storage(plan, prices)),
    }
    return told | {
        "expected_usd": round(sum(job["expected_usd"] for job in jobs.values()), 4),
        "worst_usd": round(sum(job["worst_usd"] for job in jobs.values()), 4),
        "jobs": jobs,
        "limits": write_limits(limits),
        "problem": problem,
    }


def list_types(plan: Plan) -> dict[str, list[str]]:
    """List the instance types that the run may use, by purpose; a serverless endpoint has none."""
    hosting = plan.endpoint_types if plan.recipe.endpoint.kind == "instance" else ()
    return {"trial": list(plan.trial_types), "training": list(plan.training_types), "endpoint": list(hosting)}


def explain_unpriced(missing: str, budget: float | None, cap: float) -> str | None:
    """Explain why a run with a missing price is refused; None if it has no limit in dollars to keep."""
    if budget is not None:
        return f"The budget of ${budget:,.2f} cannot be kept. {missing} Or leave budget_usd out of the recipe."
    if cap:
        return (
            f"The stage's cap of ${cap:,.2f} a month cannot be kept. {missing} Or deploy the stage without a cap "
            "(MonthlyCapUsd=0)."
        )
    return None


def _describe(dollars: Sum, seconds: Sum | None = None) -> dict[str, float]:
    told = {"expected_usd": round(dollars.expected, 4), "worst_usd": ceil(dollars.worst * 1e4) / 1e4}
    if seconds:
        told |= {"expected_seconds": round(seconds.expected), "worst_seconds": ceil(seconds.worst)}
    return told


def fit_limits(plan: Plan, prices: Prices) -> tuple[Limits, str | None]:
    """Return the limits under which the worst case is within the budget, and why there are none if there are none.

    Chosen are the longest limits that fit, between what the recipe asks for and the least under which the jobs are
    expected to finish.
    """
    widest, least = plan.limits, _find_least(plan)
    budget = plan.recipe.budget_usd
    if budget is None or price_worst(plan, widest, prices) <= budget:
        return widest, None
    at_least = price_worst(plan, least, prices)
    if at_least > budget:
        return least, (
            f"At AWS's prices the run may cost ${at_least:,.2f} even under the shortest time limits under which it is "
            f"expected to end, and its budget is ${budget:,.2f} (expected: "
            f"${price_expected(plan, least, prices):,.2f}, prices of {prices.date}). "
            "Raise budget_usd, or lower trials, epochs or image_size."
        )
    low, high = 0, STEPS
    while high - low > 1:
        middle = (low + high) // 2
        fits = price_worst(plan, _between(least, widest, middle), prices) <= budget
        low, high = (middle, high) if fits else (low, middle)
    return _between(least, widest, low), None


def _between(least: Limits, widest: Limits, step: int) -> Limits:
    def mix(low: int, high: int) -> int:
        return low + (high - low) * step // STEPS

    return Limits(
        mix(least.trial, widest.trial),
        mix(least.training, widest.training),
        mix(least.tuning, widest.tuning),
        mix(least.wait, widest.wait),
    )


def _find_least(plan: Plan) -> Limits:
    """Return the shortest limits under which every job is expected to finish, never above the recipe's own."""
    asked = plan.limits
    slowest = max(model_trial(plan, each).seconds for each in plan.trial_types)
    last = max(model_training(plan, each).seconds for each in plan.training_types)
    rounds = ceil(plan.recipe.trials / plan.recipe.parallel_trials)
    trial = min(asked.trial, max(MIN_JOB, ceil(SLACK * slowest)))
    return Limits(
        trial,
        min(asked.training, max(MIN_JOB, ceil(SLACK * last))),
        min(asked.tuning, max(MIN_TUNING, ceil(SLACK * slowest * rounds))),
        min(asked.wait, MIN_WAIT),
    )


def price_worst(plan: Plan, limits: Limits, prices: Prices) -> float:
    """Return the most that a run can cost under these limits."""
    parts = (price_trials(plan, limits, prices), price_training(plan, limits, prices), price_storage(plan, prices))
    return sum(_describe(part)["worst_usd"] for part in parts)


def price_expected(plan: Plan, limits: Limits, prices: Prices) -> float:
    """Return what a run is expected to cost under these limits."""
    parts = (price_trials(plan, limits, prices), price_training(plan, limits, prices), price_storage(plan, prices))
    return sum(part.expected for part in parts)


def time_trials(plan: Plan, limits: Limits) -> Sum:
    """Return the seconds of all trials. A trial expected to exceed its limit is expected to be stopped there."""
    each = min(model_trial(plan, plan.trial_types[0]).seconds, limits.trial)
    all_of_them = min(each * plan.recipe.trials, plan.recipe.parallel_trials * limits.tuning)
    return Sum(all_of_them, bound_trials(plan, limits))


def time_training(plan: Plan, limits: Limits) -> Sum:
    each = min(model_training(plan, plan.training_types[0]).seconds, limits.training)
    return Sum(each, bound_job(plan, limits.training, limits.wait))


def price_trials(plan: Plan, limits: Limits, prices: Prices) -> Sum:
    return _price_seconds(plan, plan.trial_types, time_trials(plan, limits), prices)


def price_training(plan: Plan, limits: Limits, prices: Prices) -> Sum:
    """Price the final training: every machine of it costs as long as the job lasts."""
    one = _price_seconds(plan, plan.training_types, time_training(plan, limits), prices)
    return Sum(one.expected * plan.recipe.instance_count, one.worst * plan.recipe.instance_count)


def _price_seconds(plan: Plan, types: Sequence[str], seconds: Sum, prices: Prices) -> Sum:
    """Price the expected time on the first instance type and the worst on the dearest; spot never costs more."""
    dearest = max(prices.training[each] for each in types)
    share = SPOT_SHARE * SPOT_REPEATS if plan.spot else 1.0
    return Sum(
        seconds.expected * prices.training[types[0]] / SECONDS_AN_HOUR * share
        + price_volume(prices, plan.volume_gb, seconds.expected),
        seconds.worst * dearest / SECONDS_AN_HOUR + price_volume(prices, plan.volume_gb, seconds.worst),
    )


def price_storage(plan: Plan, prices: Prices) -> Sum:
    """Price one month of the run's folder in the bucket: the pinned dataset, and what each job leaves."""
    jobs = plan.recipe.trials + 1
    archive = read_throughput()["architectures"][plan.recipe.architecture][2] * 1e6 * 4
    expected, worst = plan.zip_bytes + jobs * archive, plan.zip_bytes + jobs * (4 * archive + BOUND_ON_STORED)
    return Sum(expected / 1e9 * prices.s3_gb_month, worst / 1e9 * prices.s3_gb_month)


def describe_endpoint(plan: Plan, prices: Prices | None) -> dict[str, Any]:
    """Describe the endpoint's cost as a rate, since nobody knows how long it will serve; None if unknown."""
    chosen = plan.recipe.endpoint
    if chosen.kind == "serverless":
        rate = prices.serverless_gb_second * chosen.memory_mb / 1024 if prices else None
        return {"kind": "serverless", "usd_per_second_of_work": rate, "usd_per_hour_idle": 0.0}
    each = prices.hosting.get(plan.endpoint_types[0]) if prices else None
    count = chosen.min_instances
    return {
        "kind": "instance",
        "instance_type": plan.endpoint_types[0],
        "instances": count,
        "usd_per_hour": round(each * count, 4) if each is not None else None,
    }


def price_job(job: Mapping[str, Any], prices: Prices, volume_gb: int) -> float | None:
    """Return what a job has cost by its billable seconds; None if its instance type has no price.

    SageMaker counts the seconds once, and bills them for each machine of the job. Spot's discount is in the billable
    seconds: SageMaker counts fewer of them, at the on-demand price.
    """
    rate = prices.training.get(str(job.get("instance_type")))
    if rate is None:
        return None
    seconds = float(job.get("billable_seconds") or 0)
    held = float(job.get("seconds") or seconds)  # the volume exists, and is billed, all that time
    one = seconds * rate / SECONDS_AN_HOUR + price_volume(prices, volume_gb, held)
    return one * int(job.get("instance_count") or 1)


def refine(plan: Plan, limits: Limits, prices: Prices, trials: Sequence[Mapping[str, Any]]) -> float:
    """Return what the run will cost once trials have finished: their measured mean replaces the modelled one.

    The final training is expected to be as much slower or faster than modelled as the trials were, with the same share
    of spot. A trial is given as {instance_type, billable_seconds, seconds}, where `seconds` runs from its start to its
    end.
    """
    spent = [(trial, cost) for trial in trials if (cost := price_job(trial, prices, plan.volume_gb)) is not None]
    held = sum(float(trial["seconds"]) for trial, _ in spent)
    if not held:
        return price_expected(plan, limits, prices)
    share = sum(float(trial["billable_seconds"]) for trial, _ in spent) / held
    modelled = [model_trial(plan, trial["instance_type"]) for trial, _ in spent]
    fixed, work = sum(each.fixed for each in modelled), sum(each.work for each in modelled)
    pace = max(held - fixed, 0.0) / max(work, 1e-9)
    last = model_training(plan, plan.training_types[0])
    seconds = min(last.fixed + pace * last.work, limits.training)
    rate = prices.training[plan.training_types[0]] / SECONDS_AN_HOUR
    mean = sum(cost for _, cost in spent) / len(spent)
    return (
        mean * max(plan.recipe.trials, len(spent))
        + (seconds * rate * share + price_volume(prices, plan.volume_gb, seconds)) * plan.recipe.instance_count
        + price_storage(plan, prices).expected
    )
