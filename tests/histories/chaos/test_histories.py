"""Whatever befalls the control plane, the rules of `invariants.py` hold in the end. `make chaos` tries 10,000 seeds."""

from __future__ import annotations

import pytest

from tests.histories.chaos.histories import live

HISTORIES, PARTS = 300, 6


@pytest.mark.parametrize("part", range(PARTS))
def test_no_history_breaks_a_rule(part: int) -> None:
    """Of 300 histories; one that does is replayed, call by call, by `make chaos SEED=n`."""
    broken = {verdict.seed: verdict.broken for verdict in map(live, range(part, HISTORIES, PARTS)) if verdict.broken}
    assert broken == {}
