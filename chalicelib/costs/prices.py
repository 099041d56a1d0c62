"""What AWS asks for, by region: `prices.json`, which `make prices` refreshes. Dollars; an hour is an instance's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HOURS_A_MONTH = 730
SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class Prices:
    """The prices of one region. `date` is that of the file: prices have no other name for how old they are."""

    region: str
    date: str
    training: Mapping[str, float]
    hosting: Mapping[str, float]
    training_volume_gb_month: float
    s3_gb_month: float
    serverless_gb_second: float


@cache
def read_prices() -> dict[str, Any]:
    """The file as it is shipped."""
    return dict(json.loads(Path(__file__).with_name("prices.json").read_text(encoding="utf-8")))


def find_prices(region: str, document: Mapping[str, Any] | None = None) -> Prices | None:
    """The prices of a region, or None where the file has none."""
    document = document or read_prices()
    found = document["regions"].get(region)
    if found is None:
        return None
    rates = {name: value for name, value in found.items() if name != "basis"}
    return Prices(region=region, date=document["date"], **rates)


def explain_missing(prices: Prices | None, region: str, wanted: tuple[str, ...]) -> str | None:
    """What price is missing, and what to do; None where all of these training instances have one."""
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
    """What a training job's volume costs for so long."""
    return prices.training_volume_gb_month * gigabytes * seconds / (HOURS_A_MONTH * SECONDS_AN_HOUR)
