"""Read each region's prices, in dollars, from `prices.json`, which `make prices` refreshes. Hours are machine hours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HOURS_A_MONTH = 730
SECONDS_AN_HOUR = 3600
LEAST = 0.01  # dollars: less is told as "under"


@dataclass(frozen=True)
class Prices:
    """The prices of one region. `date` is the file's date, which is the only hint at how old the prices are."""

    region: str
    date: str
    training: Mapping[str, float]
    hosting: Mapping[str, float]
    training_volume_gb_month: float
    s3_gb_month: float
    serverless_gb_second: float


@cache
def read_prices() -> dict[str, Any]:
    """Return the price file as it is shipped."""
    return dict(json.loads(Path(__file__).with_name("prices.json").read_text(encoding="utf-8")))


def find_prices(region: str, document: Mapping[str, Any] | None = None) -> Prices | None:
    """Return a region's prices, or None if the file has none."""
    document = document or read_prices()
    found = document["regions"].get(region)
    if found is None:
        return None
    rates = {name: value for name, value in found.items() if name != "basis"}
    return Prices(region=region, date=document["date"], **rates)


def explain_missing(prices: Prices | None, region: str, wanted: tuple[str, ...]) -> str | None:
    """Explain which price is missing and what to do; None if all of these training instances have one."""
    if prices is None:
        return f"prices.json has no prices of the region {region}: add it with `make prices` and deploy again."
    missing = [each for each in wanted if each not in prices.training]
    if not missing:
        return None
    return (
        f"prices.json, of {prices.date}, has no price of {', '.join(missing)} in {region}: "
        "refresh it with `make prices` and deploy again, or name other instance types."
    )


def price_volume(prices: Prices, gigabytes: float, seconds: float) -> float:
    """Return what a training job's volume costs for this long."""
    return prices.training_volume_gb_month * gigabytes * seconds / (HOURS_A_MONTH * SECONDS_AN_HOUR)


def tell_spent(cost: Mapping[str, Any]) -> str:
    """Return what a run cost as the end of a sentence. Where nobody is billed, it is what AWS would have charged."""
    spent, expected, is_billed = cost.get("spent_usd"), cost.get("expected_usd"), cost.get("billed", True)
    if spent is None:
        return ""
    most = f", at most {tell_dollars(cost.get('worst_usd') or 0)}" if is_billed else ""
    told = "" if expected is None else f" (expected {tell_dollars(expected)}{most})"
    return f", {tell_dollars(spent)}{told}" if is_billed else f", free here; on AWS {tell_about(spent)}{told}"


def tell_about(usd: float) -> str:
    """Return dollars that are an estimate."""
    return tell_dollars(usd) if usd < LEAST else f"about {tell_dollars(usd)}"


def tell_dollars(usd: float) -> str:
    """Return dollars as people read them."""
    return "under $0.01" if 0 < usd < LEAST else f"${usd:,.2f}"
