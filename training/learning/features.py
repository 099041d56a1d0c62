"""Compute features with the frozen backbone once, and fit a head on them to start every fine-tuning.

Linear probe, then fine-tuning (Kumar et al. 2022): with a fitted head, the first steps do not distort good features.
The cost is one pass over train without learning, about a third of an epoch, and no augmentation for the head.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from judging.deciding.heads import fit_head
from torch import nn

__all__ = ["Enough", "cut_before", "extract", "fit_head", "run_to_head"]


class Enough(Exception):
    """The head was reached; the rest of the forward pass is not needed."""

    def __init__(self, features: torch.Tensor) -> None:
        super().__init__()
        self.features = features


@contextmanager
def cut_before(network: nn.Module, head: nn.Module) -> Iterator[None]:
    """Let the network's forward pass end at its head, which raises Enough; for any number of threads."""

    def cut(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        raise Enough(inputs[0])

    network.eval()
    handle = head.register_forward_pre_hook(cut)
    try:
        yield
    finally:
        handle.remove()


def run_to_head(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return the head's input on the CPU: (n, features) for a linear head. The network must be cut before its head."""
    with torch.no_grad():
        try:
            network(inputs)
        except Enough as found:
            return found.features.float().cpu()
    raise ValueError("the network does not reach its head")


def extract(network: nn.Module, head: nn.Module, batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """Run the network up to its head on every batch. Return the head's input on the CPU: (n, features)."""
    with cut_before(network, head):
        return torch.cat([run_to_head(network, inputs) for inputs in batches])
