"""Tell what an hour of training costs on the machines that the account allows, by the app's own price table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

PRICES = Path(__file__).resolve().parents[2] / "chalicelib" / "costs" / "prices.json"
SPOT_SHARE = 0.4  # what the app assumes (chalicelib/costs/estimates.py)


@cache
def read_prices() -> Mapping[str, Any]:
    """Return the table that the app ships."""
    return dict(json.loads(PRICES.read_text()))


def describe_hours(region: str, types: Sequence[str], use_spot: bool) -> list[str]:
    """Describe the hourly price of each instance type, as it will be used and on demand."""
    table = read_prices()
    hours = table["regions"].get(region, {}).get("training", {})
    if not any(each in hours for each in types):
        return [f"prices.json has no price of {', '.join(types)} in {region}: runs will be refused until it has one."]
    lines = [_describe_hour(each, hours[each], use_spot) for each in types if each in hours]
    return [f"An hour of training, by prices of {table['date']}:", *lines]


def _describe_hour(kind: str, dollars: float, use_spot: bool) -> str:
    spot = f"about ${dollars * SPOT_SHARE:.2f} on spot"
    return f"  {kind:<16} {spot}, ${dollars:.2f} on demand" if use_spot else f"  {kind:<16} ${dollars:.2f} on demand"
