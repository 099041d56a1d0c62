"""Mix each image of a batch with the one before it, and their labels in the same shares: MixUp and CutMix.

MixUp (Zhang and others, 2018) blends two images, CutMix (Yun and others, 2019) puts a rectangle of one into the other.
What is drawn for an image depends on nothing but the epoch's generator and the image's place, so a training that is
resumed, or shared out among processes, mixes the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import one_hot


@dataclass(frozen=True)
class Mixing:
    """How images are mixed. mixup, cutmix: the parameter of the shares' beta distribution; 0 does not mix in this way.

    With both, a coin decides for each image. side: of the images, in pixels.
    """

    mixup: float
    cutmix: float
    classes: int
    side: int

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Draw how `count` images are mixed (count, 6): the share of the whole other image, of its label, and its box.

        A box is its first row, the row after its last, and its columns in the same way; a blend has an empty one.
        """
        dice = np.random.default_rng(generator.initial_seed())
        cut = dice.random(count) < (0.5 if self.mixup else 1.0) if self.cutmix else np.zeros(count, dtype=bool)
        blended, boxed = (dice.beta(each or 1.0, each or 1.0, count) for each in (self.mixup, self.cutmix))
        half = (0.5 * self.side * np.sqrt(boxed)).astype(int)
        down, across = dice.integers(0, self.side, (2, count))
        edges = np.stack([down - half, down + half, across - half, across + half]).clip(0, self.side) * cut
        area = (edges[1] - edges[0]) * (edges[3] - edges[2]) / self.side**2
        blend = np.where(cut, 0.0, blended)
        return torch.from_numpy(np.stack([blend, blend + area, *edges], axis=1).astype(np.float32))

    def mix(self, inputs: torch.Tensor, labels: torch.Tensor, drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix all inputs (n + 1, channels, side, side) but the first, each with the one before it.

        Return the mixed ones, and each class's share of their labels (n, classes).
        """
        blend, share, *box = (each.view(-1, 1, 1, 1) for each in drawn.unbind(1))
        places = torch.arange(self.side, device=inputs.device)
        down, across = places.view(1, 1, -1, 1), places.view(1, 1, 1, -1)
        inside = (down >= box[0]) & (down < box[1]) & (across >= box[2]) & (across < box[3])
        shares = one_hot(labels, self.classes).to(inputs.dtype)
        mixed = torch.lerp(inputs[1:], inputs[:-1], torch.where(inside, 1.0, blend))
        return mixed, torch.lerp(shares[1:], shares[:-1], share.view(-1, 1))
