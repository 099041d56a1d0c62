"""Hold a network with what trains it, make its steps, and let it judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from learning.steps.average import Average
from learning.steps.precision import arithmetic
from learning.steps.replay import Recorder, Replay, draws_chance
from learning.steps.tally import Tally
from learning.steps.team import Team
from learning.steps.technique import Technique, group_parameters


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
        self.tally, self.team = Tally(device), Team()
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
        self.tally.images += len(labels)  # here, since a replayed step runs nothing of this program
        self.schedule.step()
        if self.average:
            self.average.update()

    def begin_sums(self, loss: float, hits: int, images: int) -> None:
        """Begin an epoch's sums with those of an earlier life, which one process of a team holds for all."""
        self.tally.begin(*((loss, hits, images) if self.team.is_chief else (0.0, 0, 0)))

    def read_sums(self) -> tuple[float, int, int]:
        """Return an epoch's loss, hits and images so far, of all processes together."""
        loss, hits, images = self.team.add(*self.tally.read())
        return loss, int(hits), int(images)

    def make_step(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Make one step but for the schedule."""
        with arithmetic(self.device, self.precision):
            outputs = plain(self.network(inputs))
            loss = self.criterion(outputs, labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.team.merge(self.network, len(labels))
        if self.technique.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.technique.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.team.level(self.network)
        self.tally.add(loss, outputs, labels)

    def make_replay(self, recorder: Recorder) -> Replay:
        """Return what makes this learner's steps, plain ones first and then recorded ones."""
        return Replay((self.network, self.criterion), self.optimizer, self.make_step, recorder)

    def may_replay(self) -> bool:
        """Return whether a graph would do what a plain step does: no scaler to read, no random numbers to draw."""
        return not self.scaler.is_enabled() and not draws_chance(self.network)

    def judge(self, batches: Iterable[torch.Tensor]) -> torch.Tensor:
        """Run the network without learning, in single precision. Return logits (n, classes) on the CPU.

        Each process of a team takes whole batches, so that the logits have the bits that one process would give them.
        """
        self.network.eval()
        with torch.inference_mode():
            logits = [plain(self.network(inputs)).float() for inputs in self.team.take(batches)]
            return torch.cat([*self.team.gather(logits)]).cpu()

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
