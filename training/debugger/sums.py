"""Reduce a tensor to the few numbers that the rules read, in as few passes over its values as they take."""

from __future__ import annotations

import torch

FEW = 2**24  # values that may be copied: 64 MB
MANY = 2**13  # values for which a few more calls pay
PIECE = 2**16  # values whose squares are summed at once: the sum of more would round more
LEAST = 0.01  # the part of the sum of squares below which the deviations from the mean would be rounded away


def sum_sizes(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of the absolute values: by a copy of few of them, which takes half as long and rounds less."""
    return values.abs().sum() if values.numel() <= FEW else torch.linalg.vector_norm(values, 1)


def find_variance(values: torch.Tensor) -> torch.Tensor:
    """Return the variance, zero for a single value, to about five digits.

    On a CPU the sums of many values and of their squares take a quarter of the time that torch takes. Where they are
    not finite, or the mean is far larger than the deviations, torch computes it.
    """
    count = values.numel()
    if count < 2:
        return torch.zeros(())
    if count < MANY or values.device.type != "cpu":
        return values.var()
    total, squares = sum_powers(flatten(values))
    beyond = squares - total * total / count
    return torch.tensor(beyond / (count - 1)) if beyond > LEAST * squares else values.var()


def sum_powers(values: torch.Tensor) -> tuple[float, float]:
    """Return the sums of the values and of their squares, with each piece in the processor's cache for both."""
    parts = [(piece.sum(), torch.dot(piece, piece)) for piece in values.split(PIECE)]
    total, squares = (float(torch.stack(sums).sum()) for sums in zip(*parts, strict=True))
    return total, squares


def flatten(values: torch.Tensor) -> torch.Tensor:
    """Return the values in the order in which they lie in memory, without a copy where they lie without gaps."""
    if values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last):
        values = values.permute(0, 2, 3, 1)
    return values.reshape(-1)


def count_active(outputs: torch.Tensor, rest: list[int]) -> torch.Tensor:
    """Count the positive outputs of each unit of a ReLU: again by a copy, if they are few."""
    if outputs.numel() > FEW:
        return torch.count_nonzero(outputs, dim=rest)
    return outputs.sign().sum(rest, dtype=torch.float32)


def list_all_but_units(values: torch.Tensor) -> list[int]:
    """List the dimensions along which a layer's units repeat: (n, units, height, width), or (n, ..., units)."""
    return [0, 2, 3] if values.ndim == 4 else list(range(values.ndim - 1))
