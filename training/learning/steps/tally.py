"""Add up loss and hits on the device: reading them after every step would make a GPU wait for the program."""

from __future__ import annotations

import torch


class Tally:
    """The sums over an epoch's images so far, in double precision: they are the same however often they are read."""

    def __init__(self, device: torch.device) -> None:
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.hits = torch.zeros((), dtype=torch.int64, device=device)
        self.images = 0

    def begin(self, loss: float, hits: int, images: int = 0) -> None:
        """Begin with the sums of an earlier life."""
        self.loss.fill_(loss)
        self.hits.fill_(hits)
        self.images = images

    def add(self, loss: torch.Tensor, outputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch: its mean loss, and how many of its images were classified correctly.

        Of a mixed image the class with the largest share is the right one.
        """
        self.loss.add_(loss.detach().double() * len(labels))
        told = labels if labels.ndim == 1 else labels.argmax(1)
        self.hits.add_((outputs.detach().argmax(1) == told).sum())

    def read(self) -> tuple[float, int, int]:
        return float(self.loss), int(self.hits), self.images
