"""Measure what the debugger costs: the mean step of one training with hook and rules and without, in turns.

ResNet18 trains on random images, on one thread. Watching is switched on and off within one training, block by block,
each block as long as one interval of saves, so that both run under the same conditions. The first block of each is not
counted.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.results import claim, write_result

sys.path.append(str(Path(__file__).parents[2] / "training"))

import torch
from debugger.watch import make_debugger
from job.device import tune_allocator
from learning.engine import Hook, Learner, Progress, fit
from learning.model import build_network

BLOCK, PAIRS = 10, 4
SIDE, BATCH = 64, 32


class Pictures:
    """Batches of random images, drawn in advance."""

    steps = 2 * BLOCK * PAIRS

    def __init__(self) -> None:
        chance = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(BATCH, 3, SIDE, SIDE, generator=chance).contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(0, 10, (BATCH,), generator=chance)

    def of_epoch(self, _epoch: int, first: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(first, self.steps):
            yield self.inputs, self.labels


class Switch(Hook):
    """Pass everything on to the debugger in every other block, and time each step from batch to batch."""

    def __init__(self, debugger: Any) -> None:
        self.debugger = debugger
        self.seconds: dict[bool, list[float]] = {True: [], False: []}
        self.processor: dict[bool, list[float]] = {True: [], False: []}
        self.last = (0.0, 0.0)

    def on_start(self, learner: Learner) -> None:
        self.debugger.on_start(learner)

    def on_batch(self, _epoch: int, step: int) -> None:
        now = (time.perf_counter(), time.process_time())
        if step > 2 * BLOCK:
            self.seconds[self.is_on(step - 1)].append(now[0] - self.last[0])
            self.processor[self.is_on(step - 1)].append(now[1] - self.last[1])
        self.last = now
        # In the phase of neither training nor validation the hook counts forward passes and saves nothing.
        self.debugger.on_phase("train" if self.is_on(step) else "none")

    def is_on(self, step: int) -> bool:
        return step // BLOCK % 2 == 0

    def on_step(self, epoch: int, step: int) -> None:
        if self.is_on(step):
            self.debugger.on_step(epoch, step)

    def on_end(self) -> None:
        self.debugger.on_end()


def measure(folder: Path) -> tuple[Switch, float, float]:
    """Train. Returns (the steps, watched and not; seconds of the rules' thread; seconds in all)."""
    tune_allocator()
    torch.set_num_threads(1)
    network = build_network("resnet18", 10).to(memory_format=torch.channels_last)
    learner = Learner(network, rate=1e-3, weight_decay=0.01, steps=Pictures.steps, device=torch.device("cpu"))
    debugger: Any = make_debugger(folder, folder)
    switch, begun = Switch(debugger), time.perf_counter()
    options: dict[str, Any] = {"save": lambda _: None, "report": lambda _: None, "hooks": [switch]}
    fit(
        learner,
        Pictures(),
        lambda: {"loss": 0.0, "score": 0.0},
        epochs=1,
        patience=0,
        objective="score",
        seed=0,
        progress=Progress(),
        **options,
    )
    return switch, debugger.reader.seconds, time.perf_counter() - begun


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        switch, rules, whole = measure(Path(folder))
    on, off = (statistics.fmean(switch.seconds[watched]) for watched in (True, False))
    busy_on, busy_off = (statistics.fmean(switch.processor[watched]) for watched in (True, False))
    saving = statistics.fmean(switch.seconds[True][::BLOCK])
    details = {"on_ms": on * 1000, "off_ms": off * 1000, "saving_step_ms": saving * 1000}
    write_result(
        "debugger",
        [
            claim("hook and rules, share of the mean step", 100 * (on / off - 1), "%", at_most=10, **details),
            claim("the same in processor time, whatever else the machine does", 100 * (busy_on / busy_off - 1), "%"),
            claim("the rules' thread, share of the training", 100 * rules / whole, "%", at_most=3),
        ],
        packages=["torch", "smdebug", "numpy"],
    )


if __name__ == "__main__":
    main()
