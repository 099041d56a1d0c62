"""The simulation finds what it is for: each fault that is planted in the control plane is caught within few seeds."""

from __future__ import annotations

import re

import pytest

from tests.histories.chaos.histories import History
from tests.histories.chaos.planted import PLANTED

SEEDS = 200


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str) -> None:
    """A history breaks the rule that the fault breaks, and says so; without the fault the same history does not."""
    planted = PLANTED[name]
    assert any(
        is_broken(History(seed, planted.alter, planted.focus), planted.sentence)
        and not is_broken(History(seed, focus=planted.focus), planted.sentence)
        for seed in range(SEEDS)
    )


def is_broken(history: History, sentence: str) -> bool:
    return any(re.search(sentence, each) for each in history.live().broken)
