"""Train the heads of many configurations at once, with the batches, steps and folds of trials that train one each.

A head is so small that nearly all of such a trial is the program's own work. Here the weights of all configurations
with one batch size lie in one tensor, so that a step of all costs little more than a step of one. The arithmetic is
that of AdamW and its one-cycle schedule, and strategies.py compares the outcome with that of trials.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

BETAS, EPSILON = (0.9, 0.999), 1e-8
Drawn = Mapping[str, str]


def train_heads(setup: Any, drawn: Sequence[Drawn]) -> list[dict[str, Any]]:
    """Return of each configuration the objective by epoch, that of the best epoch, and its accuracy on the test split.

    setup: a training that is about to begin, its head fitted.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for number, each in enumerate(drawn):
        groups[int(each["batch_size"])].append(number)
    rows: dict[int, dict[str, Any]] = {}
    for size, numbers in groups.items():
        told = train_group(setup, [drawn[number] for number in numbers], size)
        rows |= dict(zip(numbers, told, strict=True))
    return [rows[number] for number in range(len(drawn))]


def train_group(setup: Any, drawn: Sequence[Drawn], size: int) -> Iterator[dict[str, Any]]:
    """Train configurations of one batch size: a head for all of train, and one for all folds but each."""
    from judging.evaluate import measure
    from judging.settling.selection import FoldJudge
    from learning.preparation import extract_split

    data, judge = setup.dataset, FoldJudge(setup, lambda _: torch.zeros(0))
    train, test = (widen(extract_split(setup, split)) for split in (data.train, data.test))
    pooled, labels, places = widen(judge.features), judge.pooled, judge.places
    answers = [torch.zeros(len(drawn), len(labels), len(data.classes)) for _ in range(setup.chosen.epochs + 1)]
    for fold, own in enumerate(judge.folds):
        rest, held = places != fold, places == fold
        states = run(setup, own.learner.network, pooled[rest], labels[rest], drawn, size)
        for epoch, values in enumerate(states):
            answers[epoch][:, held] = answer(values, pooled[held])
    scores = [[measure(each, labels)[setup.chosen.objective] for each in epoch] for epoch in answers]
    states = run(setup, setup.head, train, data.train.labels, drawn, size)
    tests = [(answer(values, test).argmax(2) == data.test.labels).double().mean(1).tolist() for values in states]
    for place, each in enumerate(drawn):
        values = [epoch[place] for epoch in scores]
        best = values.index(max(values))
        told = {"valid": round(values[best], 5), "test": round(tests[best][place], 4)}
        yield {"drawn": each, **told, "epochs": [round(value, 4) for value in values[1:]]}


def widen(features: torch.Tensor) -> torch.Tensor:
    """Add a column of ones, whose weights are the biases."""
    return torch.cat([features, torch.ones(len(features), 1)], dim=1)


def answer(values: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Return the logits (configurations, images, classes) of heads (configurations, classes, features)."""
    logits = features @ values.flatten(0, 1).T
    return logits.view(len(features), *values.shape[:2]).transpose(0, 1)


def run(
    setup: Any, head: nn.Linear, features: torch.Tensor, labels: torch.Tensor, drawn: Sequence[Drawn], size: int
) -> Iterator[torch.Tensor]:
    """Yield the weights (configurations, classes, features) of the fitted head, and after each epoch."""
    from images.data import Batches
    from learning.model import choose_rate

    seed, epochs = setup.chosen.seed, setup.chosen.epochs
    batches = Batches(
        features.__getitem__, labels, lambda inputs, _: inputs, batch_size=size, seed=seed, device=setup.device
    )
    begun = torch.cat([head.weight, head.bias[:, None]], dim=1).detach()
    values = begun.repeat(len(drawn), 1, 1)
    means, squares = torch.zeros_like(values), torch.zeros_like(values)
    peaks = stack([choose_rate("head", True, float(each["learning_rate"])) for each in drawn])
    decays = stack([float(each["weight_decay"]) for each in drawn]).repeat(1, 1, features.shape[1])
    decays[:, :, -1] = 0.0
    yield values
    rates = list_rates(epochs * batches.steps)
    for epoch in range(1, epochs + 1):
        for number, (inputs, told) in enumerate(batches.of_epoch(epoch), (epoch - 1) * batches.steps):
            gradient = differentiate(values, inputs, told)
            means.lerp_(gradient, 1 - BETAS[0])
            squares.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            first, second = (1 - beta ** (number + 1) for beta in BETAS)
            rate = peaks * rates[number]
            values = values.mul(1 - rate * decays)
            values.sub_(rate / first * means / ((squares / second).sqrt_() + EPSILON))
        yield values


def stack(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1)


def differentiate(values: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the gradient of each head's mean cross-entropy."""
    errors = answer(values, inputs).softmax(2)
    errors[:, torch.arange(len(labels)), labels] -= 1
    flat = errors.transpose(1, 2).reshape(-1, len(labels)) @ inputs
    return flat.view_as(values) / len(labels)


def list_rates(steps: int) -> list[float]:
    """Return each step's share of the peak rate."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=max(steps, 5), pct_start=0.25, cycle_momentum=False
    )
    rates = []
    for _ in range(steps):
        rates.append(float(schedule.get_last_lr()[0]))
        optimizer.step()
        schedule.step()
    return rates
