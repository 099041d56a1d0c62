"""Compute what a run will cost, from its plan, and what it has cost, from its jobs' billable seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from chalicelib.costs.allowances import explain_endpoint, explain_instances
from chalicelib.costs.estimates import estimate, price_job, refine
from chalicelib.costs.plans import Plan, make_plan, read_limits
from chalicelib.costs.prices import find_prices
from chalicelib.recipes.resolving import read_pinned
from chalicelib.runs.identity import Run
from chalicelib.runs.observation import Training
from chalicelib.services import Services

Job = Mapping[str, Any]
TOLD = ("expected_usd", "worst_usd", "budget_usd", "prices_date", "region", "spot", "unknown", "limits", "endpoint")


def plan_run(run: Run, dataset: Mapping[str, Any], services: Services) -> Plan:
    return make_plan(read_pinned(run.recipe), services.settings, run.size, dataset)


def estimate_run(run: Run, dataset: Mapping[str, Any], services: Services) -> dict[str, Any]:
    """Estimate what the run will cost and can cost at most: the member `cost` of its run.json."""
    settings, plan = services.settings, plan_run(run, dataset, services)
    told = estimate(plan, find_prices(settings.aws_region), settings.aws_region, settings.monthly_cap_usd)
    refused = explain_instances(plan.recipe, settings) or explain_endpoint(plan.recipe, plan.endpoint_types, settings)
    return told | {"problem": told["problem"] or refused}


def tell_training(training: Training) -> dict[str, Any]:
    """Describe one attempt of the final training, with what its bill depends on."""
    return {
        "name": training.name,
        "started_at": training.started_at.isoformat() if training.started_at else None,
        "ended_at": training.ended_at.isoformat() if training.ended_at else None,
        "billable_seconds": training.billable_seconds,
        "instance_type": training.instance_type,
        "instance_count": training.instance_count,
    }


def count_spent(run: Run, trials: Sequence[Job], trainings: Sequence[Job], now: datetime, region: str) -> float | None:
    """Return the dollars that jobs have cost so far, from their descriptions; None if a price is missing."""
    prices = find_prices(region)
    if prices is None or run.cost is None:
        return None
    volume = int(run.cost.get("volume_gb", 0))
    pairs = ((trials, "trial"), (trainings, "training"))
    costs = [price_job(_measure(job, use, run, now), prices, volume) for jobs, use in pairs for job in jobs]
    known = [cost for cost in costs if cost is not None]
    return round(sum(known), 4) if len(known) == len(costs) else None


def _measure(job: Job, use: str, run: Run, now: datetime) -> dict[str, Any]:
    """Return a job's seconds and machine, even if the job's own description was not read."""
    seconds = count_seconds(job, now)
    pinned = run.list_pinned_types(use) or (None,)
    billable = job.get("billable_seconds")
    return {
        "instance_type": job.get("instance_type") or pinned[0],
        "instance_count": job.get("instance_count"),
        "billable_seconds": seconds if billable is None else billable,
        "seconds": max(seconds, billable or 0),
    }


def count_billable(jobs: Sequence[Job], now: datetime) -> int:
    """Sum the seconds that SageMaker bills for jobs: as it tells them, or from each job's start to its end, or now."""
    told = [(job.get("billable_seconds"), job) for job in jobs]
    return round(sum(count_seconds(job, now) if billed is None else billed for billed, job in told))


def count_seconds(job: Job, now: datetime) -> float:
    """Return the whole seconds from a job's start to its end, or to now."""
    if not job.get("started_at"):
        return 0.0
    ended = datetime.fromisoformat(job.get("ended_at") or now.isoformat())
    return float(max(0, math.ceil((ended - datetime.fromisoformat(job["started_at"])).total_seconds())))


def meter(
    run: Run, dataset: Job | None, trials: Sequence[Job], trainings: Sequence[Job], services: Services
) -> dict[str, Any] | None:
    """Build `cost` as the routes return it: what was expected, what is expected now, and what was spent so far."""
    if run.cost is None:
        return None
    now, region = services.clock.now(), services.settings.aws_region
    told = {name: run.cost.get(name) for name in TOLD} | {"jobs": run.cost.get("jobs", {})}
    return told | {
        "billed": services.settings.billed,
        "spent_usd": count_spent(run, trials, trainings, now, region),
        "refined_usd": _refine(run, dataset, trials, now, services),
    }


def _refine(run: Run, dataset: Job | None, trials: Sequence[Job], now: datetime, services: Services) -> float | None:
    """Return what the run is expected to cost according to its finished trials; None if none has finished."""
    prices = find_prices(services.settings.aws_region)
    ended = [_measure(trial, "trial", run, now) for trial in trials if trial.get("ended_at")]
    if prices is None or not ended or not dataset or not run.cost or run.cost.get("unknown"):
        return None
    plan = plan_run(run, dataset, services)
    return round(refine(plan, read_limits(run, plan.recipe), prices, ended), 4)
