"""Run the training loops: a step, an epoch, many epochs, and a pass without learning.

Everything that the loops need is an argument. Debugging and profiling attach as hooks, which observe the training and
may stop it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from learning.steps.average import Average
from learning.steps.precision import arithmetic
from learning.steps.replay import Recorder, Replay, draws_chance
from learning.steps.tally import Tally
from learning.steps.technique import Technique, group_parameters

Metrics = dict[str, float]
WORST = 100.0
HOPELESS = 10.0  # guessing among a thousand classes has a loss of 6.9


class Stopped(Exception):
    """The training was asked to end early. The progress made so far is kept."""


class BatchSource(Protocol):
    """Where the loop gets its batches."""

    steps: int

    def of_epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (inputs, class numbers), starting at batch number `first`."""
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


class Learner:
    """A network with what trains it: AdamW, a one-cycle schedule, and half precision where the hardware has it."""

    def __init__(
        self,
        network: nn.Module,
        *,
        rate: float,
        weight_decay: float,
        steps: int,
        device: torch.device,
        frozen: Sequence[nn.Module] = (),
        precision: torch.dtype | None = None,
        criterion: nn.Module | None = None,
        technique: Technique | None = None,
    ) -> None:
        """precision: a half precision for the steps; None means single precision."""
        self.network, self.device, self.frozen = network, device, frozen
        self.criterion = (criterion or nn.CrossEntropyLoss()).to(device)
        self.precision = precision
        fused = {"fused": True, "capturable": device.type == "cuda"}
        self.technique = technique or Technique()
        groups = group_parameters(network, weight_decay, rate, self.technique)
        self.optimizer = torch.optim.AdamW(groups, lr=rate, **fused)
        # The schedule cannot split fewer than five steps into its two phases.
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=[group["lr"] for group in groups],
            total_steps=max(steps, 5),
            pct_start=0.25,
            cycle_momentum=False,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision is torch.float16)
        self.tally = Tally(device)
        self.average = Average(network, self.technique.averaging) if self.technique.averaging else None
        self.replay: Replay | None = None
        self.is_looked_into, self.was_replayed = False, False
        self.keep_rates()

    def learn(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Make one step, and add its loss and its hits to the tally.

        A hook that looks into a step sets `is_looked_into` before it, and so gets a plain one.
        """
        if self.replay and not self.is_looked_into:
            self.was_replayed = self.replay(inputs, labels)
        else:
            self.was_replayed = False
            self.make_step(inputs, labels)
        self.is_looked_into = False
        self.schedule.step()
        if self.average:
            self.average.update()

    def make_step(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Make one step but for the schedule."""
        with arithmetic(self.device, self.precision):
            outputs = plain(self.network(inputs))
            loss = self.criterion(outputs, labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.technique.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.technique.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.tally.add(loss, outputs, labels)

    def make_replay(self, recorder: Recorder) -> Replay:
        """Return what makes this learner's steps, plain ones first and then recorded ones."""
        return Replay((self.network, self.criterion), self.optimizer, self.make_step, recorder)

    def may_replay(self) -> bool:
        """Return whether a graph would do what a plain step does: no scaler to read, no random numbers to draw."""
        return not self.scaler.is_enabled() and not draws_chance(self.network)

    def judge(self, batches: Iterable[torch.Tensor]) -> torch.Tensor:
        """Run the network without learning, in single precision. Return logits (n, classes) on the CPU."""
        self.network.eval()
        with torch.inference_mode():
            return torch.cat([plain(self.network(inputs)).float() for inputs in batches]).cpu()

    def show_average(self, wanted: bool) -> None:
        """Let the network hold the average of its weights, if there is one, or those that are trained."""
        if self.average:
            self.average.show(wanted)

    def set_training(self) -> None:
        """Switch to training mode, except for frozen modules."""
        self.network.train()
        for module in self.frozen:
            module.eval()

    def state(self) -> dict[str, Any]:
        """Return everything that a later process needs to resume from here."""
        return {name: part.state_dict() for name, part in self.list_parts().items()}

    def list_parts(self) -> dict[str, Any]:
        """Return what a state is made of, by name."""
        parts = {"network": self.network, "optimizer": self.optimizer, "schedule": self.schedule, "scaler": self.scaler}
        return parts | ({"average": self.average} if self.average else {})

    def restore(self, state: dict[str, Any]) -> None:
        """Load a state, from which the training resumes."""
        for name, part in self.list_parts().items():
            part.load_state_dict(state[name])
        self.keep_rates()
        if self.replay:
            self.replay.forget()

    def keep_rates(self) -> None:
        """On a GPU, let each group of weights have its learning rate in a tensor, which the schedule fills in place."""
        if self.device.type == "cuda":
            for group in self.optimizer.param_groups:
                group["lr"] = torch.tensor(float(group["lr"]), device=self.device)


def plain(outputs: Any) -> torch.Tensor:
    """Return the main output of a network that also returns auxiliary outputs during training."""
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
    learner.tally.begin(totals.loss, totals.correct)
    for inputs, labels in batches.of_epoch(progress.epoch + 1, progress.step):
        for hook in hooks:
            hook.on_batch(progress.epoch + 1, progress.step)
        # Dropout draws from the global generator: what a step draws must not depend on where the job resumed.
        torch.manual_seed(seed * 1_000_003 + progress.epoch * 10_007 + progress.step)
        learner.learn(inputs, labels)
        totals.images += len(labels)
        totals.seconds = before + time.monotonic() - begun
        for hook in hooks:
            hook.on_step(progress.epoch + 1, progress.step)
        progress.step += 1
        if stop_asked():
            totals.loss, totals.correct = learner.tally.read()
            save(progress)
            raise Stopped
    totals.loss, totals.correct = learner.tally.read()
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
