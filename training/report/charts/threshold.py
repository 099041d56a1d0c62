"""Work out and draw what a threshold buys: fewer answers, more of them right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from matplotlib.ticker import PercentFormatter

from report.charts.drawing import SERIES, WIDE, drawing, to_svg

STEPS = (*(number / 50 for number in range(50)), 0.99)
TOLD = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


class Answer(Protocol):
    """An image's label, the answer, and its probability."""

    @property
    def label(self) -> int: ...
    @property
    def predicted(self) -> int: ...
    @property
    def probability(self) -> float: ...


@dataclass(frozen=True)
class Kept:
    """The answers at or above a threshold: their share of all, and the share of them that is right (None of none)."""

    threshold: float
    answers: int
    share: float
    accuracy: float | None


def trace(answers: Sequence[Answer], thresholds: Sequence[float] = STEPS) -> list[Kept]:
    """Return what is left at each threshold."""
    found = []
    for threshold in thresholds:
        kept = [each.predicted == each.label for each in answers if each.probability >= threshold]
        share = len(kept) / max(1, len(answers))
        found.append(Kept(threshold, len(kept), share, sum(kept) / len(kept) if kept else None))
    return found


def draw_threshold(traced: Sequence[Kept]) -> str:
    """Draw both shares by threshold."""
    with drawing(WIDE, 280) as (figure, [axes]):
        places = [each.threshold for each in traced]
        axes.plot(places, [each.share for each in traced], color=SERIES[0], label="images that get an answer")
        right = [(each.threshold, each.accuracy) for each in traced if each.accuracy is not None]
        axes.plot(
            [place for place, _ in right], [share for _, share in right], color=SERIES[1], label="of those, right"
        )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("threshold")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.legend(loc="lower left", ncols=2)
        return to_svg(figure, "Share of images answered, and of answers that are right, by threshold")
