"""Estimate what an idle stage costs a month, from its stack's resources and the dated prices in `rest_prices.json`.

The cost of a run is told before each run; the cost of an endpoint on instances is told with its model.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HOURS_A_MONTH, MINUTES_A_MONTH = 730, 43_800
MINUTES = {"minute": 1, "minutes": 1, "hour": 60, "hours": 60, "day": 1_440, "days": 1_440}


@dataclass(frozen=True)
class Item:
    """One line of the estimate, in dollars a month."""

    what: str
    count: int
    dollars: float


@cache
def read_rest_prices() -> dict[str, Any]:
    """Return the price table as it is shipped."""
    return dict(json.loads(Path(__file__).with_name("rest_prices.json").read_text()))


def estimate_rest(resources: Iterable[Mapping[str, Any]], zones: int, schedules: Iterable[str]) -> list[Item]:
    """Estimate the monthly cost of an idle stack's resources; `zones` is the number of zones of each VPC endpoint."""
    prices, listed = read_rest_prices(), list(resources)
    kinds = Counter(each["ResourceType"] for each in listed)
    items = [
        Item(row["what"], kinds[kind], kinds[kind] * row["price"])
        for kind, row in prices["month"].items()
        if kinds[kind]
    ]
    doors = [
        each
        for each in listed
        if each["ResourceType"] == "AWS::EC2::VPCEndpoint" and not each["LogicalResourceId"].startswith("S3")
    ]
    if doors:
        dollars = len(doors) * zones * HOURS_A_MONTH * prices["interface_endpoint_zone_hour"]
        items.append(Item(f"VPC endpoints in {zones} subnets", len(doors), dollars))
    calls = sum(count_calls(each) for each in schedules)
    return [*items, Item("calls of the sweep", calls, price_calls(calls))] if calls else items


def count_calls(schedule: str) -> int:
    """Return how often a month a schedule such as `rate(5 minutes)` calls. Other forms count as 0."""
    found = re.fullmatch(r"rate\((\d+) (\w+)\)", schedule)
    return MINUTES_A_MONTH // (int(found[1]) * MINUTES[found[2]]) if found else 0


def price_calls(calls: int) -> float:
    """Price a month's calls of the sweep, each as long as the table says."""
    prices = read_rest_prices()
    seconds = prices["sweep"]["seconds"] * prices["sweep"]["gigabytes"]
    return float(calls * (prices["lambda_million_requests"] / 1e6 + seconds * prices["lambda_gb_second"]))


def describe_rest(items: Iterable[Item]) -> list[str]:
    """Format the estimate as lines, with its sum, its date and what it leaves out."""
    prices, listed = read_rest_prices(), list(items)
    lines = [f"  {item.dollars:8.2f}  {item.count:>6,} {item.what}" for item in listed]
    total = sum(item.dollars for item in listed)
    held = (
        f"Beside it ${prices['s3_gb_month']} for each GB in the bucket, ${prices['logs_gb_stored_month']} each GB of "
        "logs. A serverless endpoint costs nothing at rest, one on instances does."
    )
    dated = f"Prices of {prices['region']}, {prices['date']}, without free tiers."
    return [f"At rest about ${total:.2f} a month:", *lines, f"  {held}", f"  {dated}"]
