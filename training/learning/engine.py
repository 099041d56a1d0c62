"""The loops: one step, one epoch, many epochs; a pass without learning. Everything they need comes in by signature.

A hook looks on (and may stop the training): debugging and profiling attach here, and nothing below knows of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

Metrics = dict[str, float]
WORST = 100.0


class Stopped(Exception):
    """The training was asked to end early; the progress it made stands."""


class BatchSource(Protocol):
    """What the loop draws batches from."""

    steps: int

    def of_epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (inputs, class numbers) from batch number `first` on."""
        ...


class Hook:
    """Looks on at a training. Each method may be overridden; raising Stopped ends the training in good order."""

    def on_start(self, learner: Learner) -> None:
        """Before the first step."""

    def on_batch(self, epoch: int, step: int) -> None:
        """When a batch lies ready, before its step."""

    def on_step(self, epoch: int, step: int, loss: float) -> None:
        """After each step; epochs count from 1, steps within an epoch from 0."""

    def on_phase(self, phase: str) -> None:
        """Before a phase begins: train or valid."""

    def on_epoch(self, record: dict[str, Any]) -> None:
        """After each epoch, with its record as it goes to metrics.jsonl."""

    def on_end(self) -> None:
        """After the last step, also when the training was stopped."""


@dataclass
class Totals:
    """Sums over the images of an epoch so far."""

    loss: float = 0.0
    correct: int = 0
    images: int = 0
    seconds: float = 0.0

    def add(self, loss: float, correct: int, images: int) -> None:
        self.loss += loss * images
        self.correct += correct
        self.images += images

    def means(self) -> Metrics:
        """The means over the images; of a diverged training a large number, since JSON and tuning need one."""
        loss = self.loss / max(1, self.images)
        return {"loss": min(loss, WORST) if loss == loss else WORST, "accuracy": self.correct / max(1, self.images)}


@dataclass
class Progress:
    """How far a training is: `epoch` epochs are done, and `step` steps of the next one.

    best_weights is None while the newest weights are the best: the two need not be stored twice.
    """

    epoch: int = 0
    step: int = 0
    totals: Totals = field(default_factory=Totals)
    best_epoch: int = 0
    best: Metrics = field(default_factory=dict)
    best_weights: dict[str, torch.Tensor] | None = None


class Learner:
    """A network with what makes it learn: AdamW, a one-cycle schedule, and half precision where a GPU has it."""

    def __init__(
        self,
        network: nn.Module,
        *,
        rate: float,
        weight_decay: float,
        steps: int,
        device: torch.device,
        frozen: Sequence[nn.Module] = (),
    ) -> None:
        self.network, self.device, self.frozen = network, device, frozen
        self.criterion = nn.CrossEntropyLoss()
        self.precision = choose_precision(device)
        self.optimizer = torch.optim.AdamW(group_parameters(network, weight_decay), lr=rate, fused=True)
        # The schedule cannot divide fewer than five steps into its two phases.
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=rate, total_steps=max(steps, 5), pct_start=0.25, cycle_momentum=False
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision is torch.float16)

    def learn(self, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[float, int]:
        """Make one step: (mean loss, number of images that were judged right)."""
        with self.arithmetic():
            outputs = plain(self.network(inputs))
            loss = self.criterion(outputs, labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        return loss.item(), int((outputs.argmax(1) == labels).sum())

    def judge(self, batches: Iterable[torch.Tensor]) -> torch.Tensor:
        """Run the network over inputs without learning: logits (n, classes) on the CPU, in single precision."""
        self.network.eval()
        with torch.inference_mode(), self.arithmetic():
            return torch.cat([plain(self.network(inputs)).float().cpu() for inputs in batches])

    def arithmetic(self) -> Any:
        """The context in which the network computes."""
        return torch.autocast(self.device.type, self.precision) if self.precision else nullcontext()

    def set_training(self) -> None:
        """Switch to training, except for what is frozen."""
        self.network.train()
        for module in self.frozen:
            module.eval()

    def state(self) -> dict[str, Any]:
        """Everything that a later process needs to go on from here."""
        parts = {"network": self.network, "optimizer": self.optimizer, "schedule": self.schedule, "scaler": self.scaler}
        return {name: part.state_dict() for name, part in parts.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for name in ("network", "optimizer", "schedule", "scaler"):
            getattr(self, name).load_state_dict(state[name])


def choose_precision(device: torch.device) -> torch.dtype | None:
    """Choose half precision where a GPU computes in it; None is single precision, always so on a CPU."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def group_parameters(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Let only matrices and filters decay: not biases, nor the factors of normalisation."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if parameter.ndim > 1]
    plain_ones = [parameter for parameter in trained if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain_ones, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def plain(outputs: Any) -> torch.Tensor:
    """Take the main output of networks that give auxiliary ones too while they train."""
    return outputs if isinstance(outputs, torch.Tensor) else outputs.logits


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
    hooks: Sequence[Hook] = (),
    stop_asked: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train until `epochs`, or until the objective has not improved for `patience` epochs (0: never give up).

    save is called after every epoch, and when a stop was asked for, which raises Stopped. The network ends with the
    weights of its last epoch; those of the best are `best_weights`, or the same where that is None.
    """
    for hook in hooks:
        hook.on_start(learner)
    try:
        while progress.epoch < epochs and not gave_up(progress, patience):
            run_epoch(learner, batches, progress, seed, hooks, save, stop_asked)
            record = close_epoch(validate, objective, progress, hooks)
            report(record)
            save(progress)
            for hook in hooks:
                hook.on_epoch(record)
    finally:
        for hook in hooks:
            hook.on_end()
    return progress


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
    """Make the steps that the epoch under way still lacks."""
    announce(hooks, "train")
    learner.set_training()
    if progress.best_weights is None and progress.best_epoch:
        progress.best_weights = copy_weights(learner.network)
    begun, before = time.monotonic(), progress.totals.seconds
    for inputs, labels in batches.of_epoch(progress.epoch + 1, progress.step):
        # Dropout draws from the global source of chance: what a step draws must not depend on where a resume began.
        for hook in hooks:
            hook.on_batch(progress.epoch + 1, progress.step)
        torch.manual_seed(seed * 1_000_003 + progress.epoch * 10_007 + progress.step)
        loss, correct = learner.learn(inputs, labels)
        progress.totals.add(loss, correct, len(labels))
        progress.totals.seconds = before + time.monotonic() - begun
        for hook in hooks:
            hook.on_step(progress.epoch + 1, progress.step, loss)
        progress.step += 1
        if stop_asked():
            save(progress)
            raise Stopped


def close_epoch(
    validate: Callable[[], Metrics], objective: str, progress: Progress, hooks: Sequence[Hook]
) -> dict[str, Any]:
    """Validate, note whether this epoch is the best so far, and make its record."""
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
    """Give the network the weights of its best epoch."""
    if progress.best_weights is not None:
        network.load_state_dict(progress.best_weights)
