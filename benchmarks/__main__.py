"""Run every benchmark, one after another: `make bench`. One alone: `python -m benchmarks.ROOM.NAME`."""

from __future__ import annotations

import importlib

NAMES = (
    "control.cold_import",
    "control.preflight",
    "control.promotion",
    "local.server",
    "local.trial_start",
    "local.endpoint",
    "local.route",
    "local.serving",
    "local.forms",
    "local.growth",
    "local.load",
    "training.debugger",
    "training.batch_norm",
    "training.parity",
    "training.profiler",
    "training.report",
    "training.overhead",
    "training.decode",
    "training.finetune",
    "training.tuning",
    "training.gpu",
    "judging.rules",
    "judging.labels",
    "judging.planted",
    "judging.quality",
    "judging.unknown",
    "judging.rates",
    "control.page",
    "delivery.package",
    "delivery.stack",
    "control.lambda_function",
    "local.demo",
    "delivery.suite",
)

if __name__ == "__main__":
    for name in NAMES:
        importlib.import_module(f"benchmarks.{name}").main()
