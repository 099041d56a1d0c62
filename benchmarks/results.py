"""Write result files: what was measured, when, on which hardware, with which versions."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.table import RESULTS, rewrite


def write_result(name: str, claims: Iterable[dict[str, Any]], packages: Iterable[str] = ()) -> Path:
    """Write `results/NAME.json` and print its claims, a line each. Returns the file's path."""
    claims = list(claims)
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": {"processor": read_processor_name(), "cores": os.cpu_count(), "memory_gib": read_memory_gib()},
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
        "claims": claims,
    }
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")
    rewrite()
    for item in claims:
        verdict = {True: "ok", False: "MISSED", None: ""}[item["holds"]]
        bound = f" (at most {item['at_most']:g})" if item.get("at_most") is not None else ""
        bound += f" (at least {item['at_least']:g})" if item.get("at_least") is not None else ""
        print(f"{name}: {item['claim']}: {item['measured']:.4g} {item['unit']}{bound} {verdict}", flush=True)
    return path


def claim(
    text: str,
    measured: float,
    unit: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    **details: Any,
) -> dict[str, Any]:
    """Return a measured figure beside its bound, if it has one."""
    is_low_enough = at_most is None or measured <= at_most
    is_high_enough = at_least is None or measured >= at_least
    is_bounded = at_most is not None or at_least is not None
    return {
        "claim": text,
        "measured": measured,
        "unit": unit,
        "at_most": at_most,
        "at_least": at_least,
        "holds": is_low_enough and is_high_enough if is_bounded else None,
        **details,
    }


def spread(samples: Iterable[float]) -> dict[str, float]:
    """Return the minimum, median, 99th percentile and maximum of the samples, in their own unit."""
    ordered = sorted(samples)
    return {
        "min": ordered[0],
        "median": statistics.median(ordered),
        "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
        "max": ordered[-1],
        "samples": len(ordered),
    }


def read_processor_name() -> str:
    """Return the processor as the kernel names it, or as Python does without /proc."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def read_memory_gib() -> float:
    """Return the physical memory in GiB."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
