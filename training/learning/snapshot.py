"""Remember a learner's state, so that steps that are made only to look at them leave no trace."""

from __future__ import annotations

import random
from copy import deepcopy

import numpy as np
import torch

from learning.engine import Learner


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
