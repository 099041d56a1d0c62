"""Let the steps of a training be replayed as graphs, once it is proven that they do what plain steps do.

Steps that are made only to look at them leave no trace: a snapshot puts everything back.
"""

from __future__ import annotations

import random
from copy import deepcopy
from itertools import islice

import numpy as np
import torch
from images.data import Batches
from job.metrics import log

from learning.engine import Learner
from learning.steps.replay import REAL_STEPS, CudaRecorder, Recorder

REPLAYED = 3  # steps that are compared with plain ones


class Snapshot:
    """Everything that a step changes: weights, optimizer, schedule, scaler, and every source of randomness."""

    def __init__(self, learner: Learner) -> None:
        self.learner, self.state = learner, deepcopy(learner.state())
        self.modes = [(module, module.training) for module in learner.network.modules()]
        self.torch, self.numpy, self.python = torch.get_rng_state(), np.random.get_state(), random.getstate()
        self.cuda = torch.cuda.get_rng_state_all() if learner.device.type == "cuda" else []

    def restore(self) -> None:
        """Restore everything; this may be repeated."""
        self.learner.restore(deepcopy(self.state))
        self.learner.optimizer.zero_grad(set_to_none=True)
        for module, training in self.modes:
            module.training = training
        torch.set_rng_state(self.torch)
        np.random.set_state(self.numpy)
        random.setstate(self.python)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)


def allow_replay(learner: Learner, batches: Batches, recorder: Recorder | None = None) -> bool:
    """Let a learner's steps be replayed if the first ones give the same bits as plain ones. Leave no other trace.

    Call this after a checkpoint was restored. recorder: what records; by default CUDA, where there is a GPU.
    """
    if recorder is None and learner.device.type != "cuda":
        return False
    if not learner.may_replay():
        log("steps are plain: they draw random numbers or scale their loss")
        return False
    snapshot = Snapshot(learner)
    try:
        expected = try_steps(learner, batches)
        snapshot.restore()
        learner.replay = learner.make_replay(recorder or CudaRecorder())
        same = all(map(torch.equal, expected, try_steps(learner, batches))) and bool(learner.replay.recorded)
    except RuntimeError as error:  # how torch reports what cannot be recorded
        log(f"steps are plain: they cannot be recorded ({error})")
        same = False
    finally:
        snapshot.restore()
    if not same:
        learner.replay = None
        log("steps are plain: replayed ones were not the same bits")
    return same


def try_steps(learner: Learner, batches: Batches) -> list[torch.Tensor]:
    """Make the first steps of the first epoch, and return the weights and sums that they lead to."""
    learner.set_training()
    learner.tally.begin(0.0, 0)
    for inputs, labels in islice(batches.of_epoch(1), REAL_STEPS + REPLAYED):
        learner.learn(inputs, labels)
    moments = [value for state in learner.optimizer.state.values() for value in state.values()]
    found = [*learner.network.state_dict().values(), *moments, learner.tally.loss, learner.tally.hits]
    return [value.detach().clone() for value in found]
