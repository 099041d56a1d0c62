"""Keep a moving average of a network's weights beside those that are trained, and let either take the other's place."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Average:
    """The exponential moving average of everything in a network that is a real number, its statistics too.

    decay: how much of the average a step keeps. The first steps keep less, since an average of the first weights would
    take long to forget them. `is_shown` says whether the network holds the average, and `other` what is trained.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.steps, self.is_shown = decay, 0, False
        self.own = [value for value in network.state_dict().values() if value.is_floating_point()]
        self.other = [value.clone() for value in self.own]

    def update(self) -> None:
        """Move the average towards what a step made of the weights."""
        self.steps += 1
        kept = min(self.decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(self.other, self.own, 1 - kept)

    def show(self, wanted: bool) -> None:
        """Let the network hold the average, or what is trained."""
        if wanted == self.is_shown:
            return
        with torch.no_grad():
            for one, other in zip(self.own, self.other, strict=True):
                kept = one.clone()
                one.copy_(other)
                other.copy_(kept)
        self.is_shown = wanted

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "is_shown": self.is_shown, "other": self.other}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.is_shown = state["steps"], state["is_shown"]
        for own, value in zip(self.other, state["other"], strict=True):
            own.copy_(value)
