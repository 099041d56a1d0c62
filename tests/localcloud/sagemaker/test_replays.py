"""Tests of replaying recorded tables through the tuner, by which the benchmark `strategies` chooses the default."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.judging.strategies import (
    CHOSEN,
    RANGES,
    STRATEGIES,
    TRIALS,
    Record,
    Table,
    choose_default,
    draw_configuration,
    sum_up,
)


def make_table(count: int = 30) -> Table:
    """Return a table whose scores rise with the learning rate, epoch by epoch."""
    rows = []
    for number in range(count):
        drawn = draw_configuration(number)
        score = 0.5 + 0.04 * float(drawn["learning_rate"])
        epochs = [score * (1 + epoch) / 9 for epoch in range(CHOSEN["epochs"])]
        rows.append({"table": "t", "number": number, "drawn": drawn, "valid": score, "test": score, "epochs": epochs})
    return Table(rows)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_replay_gives_the_best_of_different_configurations_and_repeats(strategy: str) -> None:
    """More trials are never worse, the same seed comes to the same end, and Hyperband runs fewer epochs."""
    table = make_table()
    best, epochs = table.replay(strategy, 1)
    assert (best, epochs) == table.replay(strategy, 1)
    few, many = (table.rows[number]["valid"] for number in best)
    assert few <= many
    whole = max(TRIALS) * CHOSEN["epochs"]
    assert (epochs < whole) == (strategy == "Hyperband")
    assert epochs <= whole


def test_a_wanted_point_gets_its_nearest_configuration_that_was_not_given_yet() -> None:
    """Itself first, then others, and no configuration lies outside the ranges."""
    table = make_table(8)
    order: list[int] = []
    while len(order) < 8:
        order.append(table.find(table.rows[5]["drawn"], order))
    assert order[0] == 5
    assert sorted(order) == list(range(8))
    assert all(item.contains(row["drawn"][item.name]) for row in table.rows for item in RANGES)


def test_the_default_has_to_win_clearly_after_few_and_after_many_trials() -> None:
    """An interval that includes 0 leaves the simplest strategy; of two winners the better one is taken."""
    assert choose_default({"Bayesian": [(0.5, 0.4), (0.2, 0.3)]}) == "Random"
    assert choose_default({"Bayesian": [(0.5, 0.4), (0.4, 0.3)]}) == "Bayesian"
    assert choose_default({"Bayesian": [(0.5, 0.4), (0.4, 0.3)], "Hyperband": [(0.9, 0.1), (0.8, 0.1)]}) == "Hyperband"
    gain, half = sum_up([[1.0, 3.0], [2.0, 2.0]])
    assert gain == 2.0
    assert half == pytest.approx(1.96 * 0.5)


def test_a_record_goes_on_where_it_ended(tmp_path: Path) -> None:
    """What is there is not made again, and time that is up leaves the rest for the next run."""
    path, made = tmp_path / "rows.jsonl", []
    cells = [{"table": "t", "number": number} for number in range(3)]

    def make(cell: dict[str, object]) -> dict[str, object]:
        made.append(cell["number"])
        return {"test": 0.5}

    assert not Record(path, float("-inf")).complete(iter(cells), make)
    assert Record(path, float("inf")).complete(iter(cells[:2]), make)
    record = Record(path, float("inf"))
    assert record.complete(iter(cells), make)
    assert made == [0, 1, 2]
    assert [row["number"] for row in record.of("t")] == [0, 1, 2]
