"""Gross faults planted beside a good live model: two of those that `make planted` counts, in real trainings."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.judging.faults import CASES, FAULTS, Case, make_version
from benchmarks.judging.planted import SOUND, Bench, measure_harm


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Bench:
    return Bench(tmp_path_factory.mktemp("planted"), weights)


@pytest.mark.parametrize("number", [3, 5])
def test_a_gross_fault_does_not_go_live(bench: Bench, number: int) -> None:
    """Shuffled labels and a network without its end: the model is far worse, and the live one stays."""
    row = bench.run(Case(number))
    assert measure_harm(row) > 0.2
    assert not row["goes_live"]
    assert row["action"] in ("decline", "ask", "fail")
    assert row["sentence"]


def test_a_case_is_its_number() -> None:
    """It plants the same files every time, and each fault in grown and in new versions, with and without the test."""
    assert make_version(Case(7)) == make_version(Case(7))
    kinds = {(case.fault, case.grown, case.everywhere) for case in map(Case, range(CASES))}
    assert kinds == {
        (fault, grown, everywhere) for fault in FAULTS for grown in (True, False) for everywhere in (True, False)
    }
    assert {Case(CASES + number).fault for number in range(SOUND)} == {"none"}
