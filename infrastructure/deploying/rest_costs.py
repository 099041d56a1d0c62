"""What a stage costs a month while nobody uses it, by the resources that its stack has: `rest_prices.json`, with its
date. What runs cost is told before each run; what an endpoint on instances costs is told by its model.
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
    """The price table as it is shipped."""
    return dict(json.loads(Path(__file__).with_name("rest_prices.json").read_text()))


def estimate_rest(resources: Iterable[Mapping[str, Any]], zones: int, schedules: Iterable[str]) -> list[Item]:
    """The monthly cost of a stack's resources at rest: `zones` is in how many an interface endpoint stands."""
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
    """How often a month a schedule calls: `rate(5 minutes)`. Other forms are not counted."""
    found = re.fullmatch(r"rate\((\d+) (\w+)\)", schedule)
    return MINUTES_A_MONTH // (int(found[1]) * MINUTES[found[2]]) if found else 0


def price_calls(calls: int) -> float:
    """What a month's calls of the sweep cost, each as long as the table says."""
    prices = read_rest_prices()
    seconds = prices["sweep"]["seconds"] * prices["sweep"]["gigabytes"]
    return float(calls * (prices["lambda_million_requests"] / 1e6 + seconds * prices["lambda_gb_second"]))


def describe_rest(items: Iterable[Item]) -> list[str]:
    """The estimate in lines, with its sum, its date and what it leaves out."""
    prices, listed = read_rest_prices(), list(items)
    lines = [f"  {item.dollars:8.2f}  {item.count:>6,} {item.what}" for item in listed]
    total = sum(item.dollars for item in listed)
    held = (
        f"Beside it ${prices['s3_gb_month']} for each GB in the bucket, ${prices['logs_gb_stored_month']} each GB of "
        "logs. A serverless endpoint costs nothing at rest, one on instances does."
    )
    dated = f"Prices of {prices['region']}, {prices['date']}, without free tiers."
    return [f"At rest about ${total:.2f} a month:", *lines, f"  {held}", f"  {dated}"]
