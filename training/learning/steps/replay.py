"""Record the whole training step as a graph of the GPU, and replay it: the program no longer starts every kernel.

A graph holds addresses. So one is recorded for each shape of a batch, set of trained weights and set of modules in
training mode, and all are forgotten when a state is loaded. The first steps of each shape are made plainly, on a side
stream: they train, and let the optimizer and cuDNN make what they make once. Recording computes nothing, so that no
step is spent on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

REAL_STEPS = 3  # that are made plainly before a step is recorded

Step = Callable[[torch.Tensor, torch.Tensor], None]
STEP_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Recorder(Protocol):
    """Records what a device is asked to do, and makes it do the same again."""

    def aside(self, act: Callable[[], None]) -> None:
        """Do something as it will be recorded."""
        ...

    def record(self, act: Callable[[], None]) -> Callable[[], None]:
        """Record something without doing it; return what does it."""
        ...


class CudaRecorder:
    """Records CUDA graphs, each with memory of its own."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()

    def aside(self, act: Callable[[], None]) -> None:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            act()
        torch.cuda.current_stream().wait_stream(self.stream)

    def record(self, act: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            act()
        replay: Callable[[], None] = graph.replay
        return replay


@dataclass(frozen=True)
class Recorded:
    """A recorded step, the batch that it reads, and the gradients that it writes, which must not be freed."""

    inputs: torch.Tensor
    labels: torch.Tensor
    run: Callable[[], None]
    gradients: list[torch.Tensor | None]


class Replay:
    """Makes the steps of a network: plain ones first, then recorded ones.

    modules: the network that is trained, and what else takes part in a step.
    """

    def __init__(
        self, modules: Sequence[nn.Module], optimizer: torch.optim.Optimizer, step: Step, recorder: Recorder
    ) -> None:
        self.modules, self.optimizer, self.step, self.recorder = modules, optimizer, step, recorder
        self.made: Counter[Hashable] = Counter()
        self.recorded: dict[Hashable, Recorded] = {}

    def __call__(self, inputs: torch.Tensor, labels: torch.Tensor) -> bool:
        """Make a step. Return whether it was replayed."""
        kind = (inputs.shape, inputs.dtype, inputs.stride(), *describe_modes(self.modules[0]))
        if kind not in self.recorded:
            if self.made[kind] < REAL_STEPS:
                self.made[kind] += 1
                self.recorder.aside(lambda: self.step(inputs, labels))
                return False
            self.recorded[kind] = self.record(inputs, labels)
        recorded = self.recorded[kind]
        recorded.inputs.copy_(inputs)
        recorded.labels.copy_(labels)
        recorded.run()
        return True

    def record(self, inputs: torch.Tensor, labels: torch.Tensor) -> Recorded:
        own = inputs.clone(), labels.clone()
        self.optimizer.zero_grad(set_to_none=True)
        with without_hooks(self.modules, self.optimizer):
            run = self.recorder.record(lambda: self.step(*own))
        return Recorded(*own, run, [weight.grad for weight in self.modules[0].parameters()])

    def forget(self) -> None:
        """Drop what was recorded: the tensors that it names may be others now."""
        self.made.clear()
        self.recorded.clear()


def describe_modes(network: nn.Module) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """Return which modules are in training mode, and which weights are trained."""
    return (
        tuple(module.training for module in network.modules()),
        tuple(weight.requires_grad for weight in network.parameters()),
    )


def draws_chance(network: nn.Module) -> bool:
    """Return whether a step of the network draws random numbers: a graph would draw others than a plain step."""
    return any(float(read_chance(module)) > 0 for module in network.modules())


def read_chance(module: nn.Module) -> Any:
    """Return with which probability a module drops something."""
    is_dropping = isinstance(module, nn.modules.dropout._DropoutNd) or type(module).__name__ == "StochasticDepth"
    own = module.p if is_dropping else getattr(module, "dropout", 0.0)
    return own if isinstance(own, float | int) else 0.0


@contextmanager
def without_hooks(modules: Iterable[nn.Module], optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Take the hooks off for a while: what looks at a step cannot be recorded."""
    owned = [(module, name) for part in modules for module in part.modules() for name in HOOKS]
    kept = [
        (owner, name, getattr(owner, name)) for owner, name in [*owned, *((optimizer, name) for name in STEP_HOOKS)]
    ]
    watched = [weight for part in modules for weight in part.parameters() if weight._backward_hooks]
    # A weight's own hooks lie in a dictionary that autograd holds, so it is emptied and filled again.
    gradients = [(weight._backward_hooks, dict(weight._backward_hooks)) for weight in watched]
    for owner, name, value in kept:
        setattr(owner, name, type(value)())
    for held, _ in gradients:
        held.clear()
    try:
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)
        for held, hooks in gradients:
            held.update(hooks)
