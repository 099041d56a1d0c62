"""Measure a step's time by phase: waiting for data, copying to the device, forward, backward, optimizer, the hooks.

Each mark names the phase that ends with it, so no moment of a step is counted twice or left out. A GPU works on while
the program goes on: `settle` waits for it, so that a phase includes its own GPU work. Waiting slows a GPU down, so the
program waits in only one step of `every`, and only those steps are kept. They are plain ones: a step that is replayed
as a graph has no phases that a program could see.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from learning.engine import Learner

PHASES = ("data", "copy", "forward", "backward", "optimizer", "hook")
Step = dict[str, float]
KEPT = 20_000
SHOWN = 500
EVERY = 25  # steps of a GPU, of which one is looked into


class Timeline:
    """The seconds of each step by phase. Attach it to a learner, and its `mark` to the batches."""

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        settle: Callable[[], None] | None = None,
        every: int = 1,
    ) -> None:
        self.clock, self.settle, self.every, self.number = clock, settle, every, 0
        self.chance = random.Random(0)  # noqa: S311  no secret depends on it
        self.steps: list[Step] = []
        self.images: list[int] = []
        self.current = dict.fromkeys(PHASES, 0.0)
        self.count, self.last, self.is_open = 0, clock(), False
        self.handles: list[Any] = []

    def mark(self, phase: str) -> None:
        """End a phase; `begin` ends a step and begins the next."""
        if self.settle and self.looks_into():
            self.settle()
        now = self.clock()
        if phase == "begin":
            self.close(now)
        else:
            self.current[phase] += now - self.last
        self.last = now

    def looks_into(self) -> bool:
        """Return whether the present step is one that is kept."""
        return self.number % self.every == 0

    def close(self, now: float) -> None:
        """Keep the step that was made, if there was one."""
        if self.is_open:
            self.current["hook"] += now - self.last
            if self.looks_into():
                self.keep(self.current, self.count)
            self.number += 1
        self.current, self.is_open, self.count = dict.fromkeys(PHASES, 0.0), False, 0

    def keep(self, step: Step, images: int) -> None:
        """Keep a step; if there are very many, keep a fair sample."""
        if len(self.steps) < KEPT:
            self.steps.append(step)
            self.images.append(images)
        elif (place := self.chance.randrange(self.number)) < KEPT:
            self.steps[place], self.images[place] = step, images

    def attach(self, learner: Learner) -> None:
        """Mark the phases inside a learner's step."""
        network, optimizer = learner.network, learner.optimizer
        self.handles = [
            network.register_forward_pre_hook(self.begin_forward),
            network.register_forward_hook(lambda *_: self.mark_training(network, "forward")),
            optimizer.register_step_pre_hook(lambda *_: self.mark("backward")),
            optimizer.register_step_post_hook(lambda *_: self.mark("optimizer")),
        ]

    def begin_forward(self, network: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.count = len(inputs[0])
        self.mark_training(network, "hook")

    def mark_training(self, network: torch.nn.Module, phase: str) -> None:
        if network.training:
            self.mark(phase)

    def end_step(self) -> None:
        """End the step; the time until the next begins belongs to the hooks."""
        self.mark("optimizer")
        self.is_open = True

    def describe(self) -> dict[str, Any]:
        """Return the content of timeline.json for the steps so far."""
        return describe(self.steps, self.images)

    def detach(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles = []


def make_timeline(device: torch.device, clock: Callable[[], float] = time.perf_counter) -> Timeline:
    """Make a timeline for a device."""
    return Timeline(clock, torch.cuda.synchronize, EVERY) if device.type == "cuda" else Timeline(clock)


def describe(steps: Sequence[Step], images: Sequence[int]) -> dict[str, Any]:
    """Return the content of timeline.json: {"phases": {name: {"mean_ms", "p95_ms", "share"}}, "steps", …}.

    If there are several steps, the first is left out of the phases: it pays for one-time work.
    """
    counted = list(steps[1:] if len(steps) > 1 else steps)
    seconds = sum(sum(step.values()) for step in counted)
    seen = sum(images[-len(counted) :]) if counted else 0
    return {
        "format": 1,
        "phases": {phase: describe_phase([step[phase] for step in counted], seconds) for phase in PHASES},
        "step_ms": round(1e3 * seconds / max(1, len(counted)), 3),
        "images_per_second": round(seen / seconds, 1) if seconds else 0.0,
        "steps": [
            {"step": number, **{phase: round(1e3 * value, 3) for phase, value in steps[number].items()}}
            for number in choose_evenly(len(steps), SHOWN)
        ],
        "count": len(steps),
    }


def describe_phase(values: Sequence[float], total: float) -> dict[str, float]:
    if not values:
        return {"mean_ms": 0.0, "p95_ms": 0.0, "share": 0.0}
    p95 = sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]
    share = sum(values) / total if total else 0.0
    return {
        "mean_ms": round(1e3 * statistics.fmean(values), 3),
        "p95_ms": round(1e3 * p95, 3),
        "share": round(share, 4),
    }


def choose_evenly(count: int, most: int) -> list[int]:
    """Choose at most `most` of the numbers below count, evenly spaced."""
    return sorted({number * count // min(count, most) for number in range(min(count, most))}) if count else []
