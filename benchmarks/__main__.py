"""Run every benchmark, one after another: `make bench`. One alone: `python -m benchmarks.NAME`."""

from __future__ import annotations

import importlib

NAMES = (
    "cold_import",
    "preflight",
    "local_cloud",
    "trial_start",
    "serving",
    "debugger",
    "profiler",
    "report",
    "page",
    "package",
    "stack",
    "lambda_function",
    "demo",
    "suite",
)

if __name__ == "__main__":
    for name in NAMES:
        importlib.import_module(f"benchmarks.{name}").main()
