"""Run the training loops: a step, an epoch, many epochs, and a pass without learning.

Everything that the loops need is an argument. Debugging and profiling attach as hooks, which observe the training and
may stop it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from job.device import seed_generators
from torch import nn

from learning.steps.learner import Learner, plain

__all__ = [
    "BatchSource",
    "Deferring",
    "Hook",
    "Learner",
    "Metrics",
    "Progress",
    "Stopped",
    "Totals",
    "close_epoch",
    "copy_weights",
    "fit",
    "plain",
    "restore_best",
    "run_epoch",
]

Metrics = dict[str, float]
WORST = 100.0
HOPELESS = 10.0  # guessing among a thousand classes has a loss of 6.9


class Stopped(Exception):
    """The training was asked to end early. The progress made so far is kept."""


class BatchSource(Protocol):
    """Where the loop gets its batches."""

    steps: int

    def of_epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (inputs, class numbers or the shares of the classes), starting at batch number `first`."""
        ...


class Hook:
    """Observe a training. Any method may be overridden; raising Stopped ends the training in good order."""

    def on_start(self, learner: Learner) -> None:
        """Called before the first step."""

    def on_batch(self, epoch: int, step: int) -> None:
        """Called when a batch is ready, before its step."""

    def on_step(self, epoch: int, step: int) -> None:
        """Called after each step. Epochs count from 1, steps within an epoch from 0.

        Its loss lies on the device; to read it every time would make a GPU wait.
        """

    def on_phase(self, phase: str) -> None:
        """Called before a phase begins: train, valid, or keep (the best model may be judged and written)."""

    def on_epoch(self, record: dict[str, Any]) -> None:
        """Called after each epoch, with its record as written to metrics.jsonl."""

    def on_end(self) -> None:
        """Called after the last step, also when the training was stopped."""


class Deferring(Hook):
    """Pass everything on to other hooks, and keep the reason of one that ends the training.

    Processes that train together must all end after the same step, and only one of them has hooks.
    """

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self.hooks, self.reason = hooks, ""

    def pass_on(self, name: str, *values: Any) -> None:
        for hook in self.hooks:
            try:
                getattr(hook, name)(*values)
            except Stopped as stopped:
                self.reason = self.reason or str(stopped)

    def on_start(self, learner: Learner) -> None:
        self.pass_on("on_start", learner)

    def on_batch(self, epoch: int, step: int) -> None:
        self.pass_on("on_batch", epoch, step)

    def on_step(self, epoch: int, step: int) -> None:
        self.pass_on("on_step", epoch, step)

    def on_phase(self, phase: str) -> None:
        self.pass_on("on_phase", phase)

    def on_epoch(self, record: dict[str, Any]) -> None:
        self.pass_on("on_epoch", record)

    def on_end(self) -> None:
        self.pass_on("on_end")


@dataclass
class Totals:
    """Sums over the images seen so far in an epoch."""

    loss: float = 0.0
    correct: int = 0
    images: int = 0
    seconds: float = 0.0

    def means(self) -> Metrics:
        """Return the means over the images. A diverged training gives a large number: JSON and tuning need a number."""
        loss = self.loss / max(1, self.images)
        return {"loss": min(loss, WORST) if loss == loss else WORST, "accuracy": self.correct / max(1, self.images)}


@dataclass
class Progress:
    """How far a training has come: `epoch` epochs are done, and `step` steps of the next one.

    `best` holds the metrics of the best epoch, and is empty before anything was judged. Epoch 0 is a pretrained network
    with its fitted head, whose weights are `head`. best_weights is None while the newest weights are the best, so that
    they are not stored twice. `spent` is the time in seconds that the job has taken, in earlier lives too.
    """

    epoch: int = 0
    step: int = 0
    totals: Totals = field(default_factory=Totals)
    best_epoch: int = 0
    best: Metrics = field(default_factory=dict)
    best_weights: dict[str, torch.Tensor] | None = None
    head: dict[str, torch.Tensor] | None = None
    spent: float = 0.0


def fit(
    learner: Learner,
    batches: BatchSource,
    validate: Callable[[], Metrics],
    *,
    epochs: int,
    patience: int,
    objective: str,
    seed: int,
    progress: Progress,
    save: Callable[[Progress], None],
    report: Callable[[dict[str, Any]], None],
    keep: Callable[[Progress], None] = lambda _: None,
    hooks: Sequence[Hook] = (),
    stop_asked: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train for `epochs`, or until the objective has not improved for `patience` epochs (0: never give up).

    save is called after every epoch, and when a stop is requested, which raises Stopped. keep is called at the end of
    every epoch, and may judge the network, but must leave its weights as they are. The network ends with the weights of
    its last epoch. Those of the best epoch are `best_weights`, or the same ones if that is None.
    """
    for hook in hooks:
        hook.on_start(learner)
    try:
        while progress.epoch < epochs and not gave_up(progress, patience):
            run_epoch(learner, batches, progress, seed, hooks, save, stop_asked)
            learner.show_average(True)
            record = close_epoch(validate, objective, progress, hooks)
            report(record)
            save(progress)
            for hook in hooks:
                hook.on_epoch(record)
            announce(hooks, "keep")
            keep(progress)
            if has_diverged(record):
                raise Stopped("it diverged: the loss is no number, or too large to come back")
    finally:
        for hook in hooks:
            hook.on_end()
    return progress


def has_diverged(record: Mapping[str, Any]) -> bool:
    """Return whether an epoch's losses say that no later one can be better: its weights are lost."""
    return bool(record["train"]["loss"] >= WORST and record["valid"].get("loss", WORST) >= HOPELESS)


def gave_up(progress: Progress, patience: int) -> bool:
    return 0 < patience <= progress.epoch - progress.best_epoch


def run_epoch(
    learner: Learner,
    batches: BatchSource,
    progress: Progress,
    seed: int,
    hooks: Sequence[Hook],
    save: Callable[[Progress], None],
    stop_asked: Callable[[], bool],
) -> None:
    """Make the remaining steps of the current epoch."""
    announce(hooks, "train")
    learner.set_training()
    if progress.best_weights is None and progress.best:
        progress.best_weights = copy_weights(learner.network)
    learner.show_average(False)
    begun, totals = time.monotonic(), progress.totals
    before = totals.seconds
    learner.begin_sums(totals.loss, totals.correct, totals.images)
    for inputs, labels in batches.of_epoch(progress.epoch + 1, progress.step):
        for hook in hooks:
            hook.on_batch(progress.epoch + 1, progress.step)
        # Dropout draws from the global generator: what a step draws must not depend on where the job resumed.
        # Each process of a team has other images, and drops other parts of them.
        own = learner.team.rank * 15_485_863
        seed_generators(seed * 1_000_003 + progress.epoch * 10_007 + progress.step + own)
        learner.learn(inputs, labels)
        totals.images += len(labels) * learner.team.size  # of a team about; read_sums counts
        totals.seconds = before + time.monotonic() - begun
        for hook in hooks:
            hook.on_step(progress.epoch + 1, progress.step)
        progress.step += 1
        if stop_asked():
            totals.loss, totals.correct, totals.images = learner.read_sums()
            save(progress)
            raise Stopped
    totals.loss, totals.correct, totals.images = learner.read_sums()
    totals.seconds = before + time.monotonic() - begun


def close_epoch(
    validate: Callable[[], Metrics], objective: str, progress: Progress, hooks: Sequence[Hook]
) -> dict[str, Any]:
    """Validate, update the best epoch, and return this epoch's record."""
    announce(hooks, "valid")
    begun = time.monotonic()
    valid = validate()
    totals, progress.totals, progress.step = progress.totals, Totals(), 0
    progress.epoch += 1
    if not progress.best or valid[objective] > progress.best[objective]:
        progress.best_epoch, progress.best, progress.best_weights = progress.epoch, valid, None
    return {
        "epoch": progress.epoch,
        "time": time.time(),
        "train": totals.means(),
        "valid": valid,
        "seconds": round(totals.seconds + time.monotonic() - begun, 3),
        "images_per_second": round(totals.images / max(totals.seconds, 1e-9), 1),
        "images": totals.images,
    }


def announce(hooks: Sequence[Hook], phase: str) -> None:
    for hook in hooks:
        hook.on_phase(phase)


def copy_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Copy a network's weights to the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}


def restore_best(network: nn.Module, progress: Progress) -> None:
    """Load the weights of the best epoch into the network."""
    if progress.best_weights is not None:
        network.load_state_dict(progress.best_weights)
