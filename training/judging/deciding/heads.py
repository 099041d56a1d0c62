"""Fit a linear head to features: penalised logistic regression, the same result every time."""

from __future__ import annotations

import torch
from torch import nn

PENALTY = 1e-3
ROUNDS = 100


def fit_head(
    head: nn.Linear,
    features: torch.Tensor,
    labels: torch.Tensor,
    *,
    penalty: float = PENALTY,
    criterion: nn.Module | None = None,
    rounds: int = ROUNDS,
) -> float:
    """Fit the head by penalised logistic regression (L-BFGS on all examples at once). Return the final loss.

    It begins at zero. With fewer rounds than usual it begins where the head is: a fit is then refined.
    """
    criterion = (criterion or nn.CrossEntropyLoss()).to(head.weight.device)
    if rounds >= ROUNDS:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    features, labels = features.to(head.weight.device), labels.to(head.weight.device)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=rounds, line_search_fn="strong_wolfe")

    def compute() -> torch.Tensor:
        optimizer.zero_grad()
        loss = criterion(head(features), labels) + penalty * head.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(compute)  # what it returns is the loss before the first of its rounds
    return float(compute().detach())
