"""Tiny real trainings with the debugger attached: a healthy one, and ways to break it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from debugger.course import Facts
from debugger.watch import make_debugger
from judging.evaluate import measure
from learning.engine import Hook, Learner, Progress, Stopped, fit
from torch import nn

CPU = torch.device("cpu")
EPOCHS, STEPS = 4, 50


class Points:
    """Batches of 32 points of 8 numbers around three centres, which overlap a little."""

    def __init__(self, steps: int = STEPS, shares: Sequence[float] = (1, 1, 1), alike: bool = False) -> None:
        self.steps, self.shares = steps, torch.tensor(shares, dtype=torch.float)
        self.centres = torch.eye(3, 8) * 2.5
        self.alike = alike
        if alike:
            self.centres[2] = self.centres[1]

    def of_epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        chance = torch.Generator().manual_seed(epoch)
        for _ in range(first, self.steps):
            yield self.draw(32, chance)

    def draw(self, count: int, chance: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.multinomial(self.shares, count, replacement=True, generator=chance)
        return self.centres[labels] + 0.7 * torch.randn(count, 8, generator=chance), labels


class Few(Points):
    """The same 24 points in every batch: right labels for most of them, and a third by chance."""

    wrong = 0.35

    def of_epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        chance = torch.Generator().manual_seed(1)
        inputs, labels = self.draw(24, chance)
        mixed = torch.rand(24, generator=chance) < self.wrong
        labels = torch.where(mixed, torch.randint(0, 3, (24,), generator=chance), labels)
        for _ in range(first, self.steps):
            yield inputs, labels


class Learnt(Few):
    """The same 24 points with right labels: soon nothing is left to learn."""

    wrong = 0.0


class Memorised(Few):
    """The same 24 points with labels by chance alone."""

    wrong = 1.0


class Blank(Points):
    """Points that say nothing of their labels."""

    def draw(self, count: int, chance: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, labels = super().draw(count, chance)
        return torch.zeros_like(inputs), labels


def build_network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (
        nn.Linear(8, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(inplace=True),
        nn.Linear(32, 16),
        nn.Tanh(),
        nn.Dropout(0.6),
    )
    return nn.Sequential(*layers, nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))


def build_deep() -> nn.Sequential:
    """Ten layers whose weights are far too small."""
    torch.manual_seed(0)
    network = nn.Sequential(*[layer for _ in range(9) for layer in (nn.Linear(8, 8), nn.ReLU())], nn.Linear(8, 3))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(0.03)
    return network


@dataclass
class Case:
    """A training: its network, what is done to it before it begins, its data and its learning rate."""

    harm: Callable[[Any], Any] = lambda network: None
    build: Callable[[], nn.Module] = build_network
    points: Points = field(default_factory=Points)
    rate: float = 0.01
    epochs: int = EPOCHS
    batch: int = 32
    counts: Sequence[int] = (100, 100, 100)


def run_case(
    case: Case,
    folder: Path,
    hooks: Sequence[Hook] = (),
    *,
    watched: bool = True,
    ready: Callable[[Learner], None] = lambda _: None,
    **options: Any,
) -> dict[str, Any]:
    """Train with the debugger; return rules.json at the end, with `stopped` saying why the training ended early.

    ready: is called with the learner before it begins.
    """
    torch.set_num_threads(1)
    network = case.build()
    with torch.no_grad():
        case.harm(network)
    steps = case.epochs * case.points.steps
    learner = Learner(network, rate=case.rate, weight_decay=0.01, steps=steps, device=CPU)
    ready(learner)
    inputs, labels = Points(alike=case.points.alike).draw(600, torch.Generator().manual_seed(99))
    answers: list[torch.Tensor] = []

    def validate() -> dict[str, float]:
        answers[:] = [learner.judge(inputs.split(100))]
        return measure(answers[0], labels)

    stopped, progress = "", Progress()
    facts = Facts(case.counts, labels, lambda: answers[0], case.batch, case.points.steps, case.epochs)
    debugger = make_debugger(folder, folder, facts, **options) if watched else None
    try:
        fit(
            learner,
            case.points,
            validate,
            epochs=case.epochs,
            patience=0,
            objective="score",
            seed=0,
            progress=progress,
            save=lambda _: None,
            report=lambda _: None,
            hooks=[*([debugger] if debugger else []), *hooks],
        )
    except Stopped as error:
        stopped = str(error)
    found = json.loads((folder / "rules.json").read_text())
    rules = {rule["name"]: rule for rule in found["rules"]}
    return {**found, "rules": rules, "stopped": stopped, "epochs": progress.epoch}
