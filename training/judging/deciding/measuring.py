"""What measured decisions have in common: their figures as plain data, and whether a head knows anything."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

CLEAR = 2.0  # standard errors by which a head must beat chance, for its answers to mean anything


@dataclass(frozen=True)
class Measured:
    """What a measurement decided, with its figures."""

    def describe(self) -> dict[str, Any]:
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


def beats_chance(right: float, chance: float, images: int) -> bool:
    """Return whether this share of right answers is clearly above that of naming the most frequent class."""
    return right > chance + CLEAR * math.sqrt(chance * (1 - chance) / images)
