"""Read metrics from a job's log by regular expressions, as SageMaker does."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

Metric = tuple[str, re.Pattern[str]]


def compile_metrics(definitions: Iterable[dict[str, Any]]) -> list[Metric]:
    """Compile MetricDefinitions ({Name, Regex}).

    Raises ValueError, with the metric's name, for an expression that Python's `re` cannot compile.
    """
    return [(definition["Name"], _compile(definition)) for definition in definitions]


def find_metrics(metrics: Iterable[Metric], line: str) -> list[tuple[str, float]]:
    """Return the values in one line of the log: the first group of each first match, where it is a number."""
    found = []
    for name, pattern in metrics:
        match = pattern.search(line)
        value = _read_number(match) if match else None
        if value is not None:
            found.append((name, value))
    return found


def _compile(definition: dict[str, Any]) -> re.Pattern[str]:
    try:
        return re.compile(definition["Regex"])
    except re.error as error:
        raise ValueError(f"the regular expression of metric {definition['Name']!r} cannot be read: {error}") from error


def _read_number(match: re.Match[str]) -> float | None:
    try:
        value = float(match.group(1))
    except (IndexError, TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
