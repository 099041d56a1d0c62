"""The tuner as a function of ranges, seed and history, and of nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.sagemaker.tuning.search import (
    Range,
    Search,
    Trial,
    count_grid,
    find_best,
    judge_hyperband,
    judge_median,
    suggest,
)

RATE = Range("rate", "float", 0.1, 10.0, "Logarithmic")
SIZE = Range("size", "categorical", choices=("16", "32", "64"))


def make_search(*ranges: Range, strategy: str = "Bayesian", seed: int = 1, **changes: Any) -> Search:
    return Search("tuning", strategy, ranges, changes.get("maximize", True), seed, changes.get("resources", (1, 1)))


def finished(value: float, **parameters: str) -> Trial:
    return Trial(parameters, "finished", [value])


numbers = st.floats(1e-6, 0.99, allow_subnormal=False)
float_ranges = st.builds(
    lambda low, width, scaling: Range("x", "float", low, min(low + width, 0.999), scaling),
    numbers,
    st.floats(1e-4, 0.5),
    st.sampled_from(["Auto", "Linear", "Logarithmic", "ReverseLogarithmic"]),
).filter(lambda made: made.low < made.high)
int_ranges = st.builds(
    lambda low, width, scaling: Range("x", "int", low, low + width, scaling),
    st.integers(1, 1000),
    st.integers(1, 1000),
    st.sampled_from(["Auto", "Linear", "Logarithmic"]),
)
choices = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=5, unique=True)
categories = choices.map(lambda values: Range("x", "categorical", choices=tuple(values)))


@settings(deadline=None, max_examples=60)
@given(
    tuned=float_ranges | int_ranges | categories,
    seed=st.integers(0, 2**31),
    strategy=st.sampled_from(["Bayesian", "Random"]),
)
def test_what_is_suggested_lies_in_its_range(tuned: Range, seed: int, strategy: str) -> None:
    """This holds for every kind and scaling, at random and by the sampler, from the first trial to the sixth."""
    search, history = make_search(tuned, strategy=strategy, seed=seed), list[Trial]()
    for number in range(6):
        drawn = suggest(search, history)
        assert drawn is not None
        assert tuned.contains(drawn["x"])
        if tuned.kind == "int":
            assert str(int(drawn["x"])) == drawn["x"]
        history.append(finished(float(number), **drawn))


@given(tuned=float_ranges | int_ranges, part=st.floats(0, 1))
def test_encoding_and_decoding_give_the_value_back(tuned: Range, part: float) -> None:
    """A suggested string is the same after the sampler has encoded and decoded it."""
    value = tuned.low + part * (tuned.high - tuned.low)
    text = tuned.decode(tuned.encode(repr(value) if tuned.kind == "float" else str(int(value))))
    assert math.isclose(float(text), value if tuned.kind == "float" else int(value), abs_tol=1e-12)


@pytest.mark.parametrize(
    ("tuned", "logarithmic"),
    [
        (Range("x", "float", 1e-5, 0.1), True),
        (Range("x", "float", 0.1, 1.0), False),
        (Range("x", "float", 0.0, 1.0), False),
        (Range("x", "float", 0.5, 0.6, "Logarithmic"), True),
        (Range("x", "float", 1e-5, 0.1, "Linear"), False),
    ],
)
def test_auto_scaling_is_logarithmic_over_two_orders_of_magnitude(tuned: Range, logarithmic: bool) -> None:
    """It is linear for narrower ranges, and for those that begin at zero."""
    assert tuned.is_logarithmic == logarithmic


def test_the_answer_depends_on_the_arguments_alone() -> None:
    """The same question has the same answer. Another seed or history has another."""
    history = [finished(0.1 * number, rate=str(number + 1.0), size="16") for number in range(4)]
    search = make_search(RATE, SIZE)
    assert suggest(search, history) == suggest(search, history)
    assert suggest(search, history) != suggest(make_search(RATE, SIZE, seed=2), history)
    assert suggest(search, history) != suggest(search, history[:3])


def test_parallel_trials_are_not_the_same() -> None:
    """Running trials count too, so four at once are four different ones."""
    search, history = make_search(RATE, SIZE), list[Trial]()
    for _ in range(4):
        drawn = suggest(search, history)
        assert drawn is not None
        history.append(Trial(drawn, "running"))
    assert len({trial.parameters["rate"] for trial in history}) == 4


def test_a_small_space_is_not_tried_twice_while_there_is_something_new() -> None:
    """Three categories give three trials, mostly without repetition. A fourth trial repeats one."""
    search, history = make_search(SIZE), list[Trial]()
    for number in range(4):
        drawn = suggest(search, history)
        assert drawn is not None
        history.append(finished(float(number), **drawn))
    assert {trial.parameters["size"] for trial in history} == {"16", "32", "64"}


def test_a_grid_ends() -> None:
    """It yields every combination in turn, and then None."""
    search = make_search(SIZE, Range("tune", "categorical", choices=("all", "head")), strategy="Grid")
    history: list[Trial] = []
    while (point := suggest(search, history)) is not None:
        history.append(finished(0.0, **point))
    assert len(history) == count_grid(search.ranges) == 6
    assert len({tuple(trial.parameters.items()) for trial in history}) == 6


def test_parents_that_do_not_fit_the_ranges_are_passed_over() -> None:
    """A warm start from other ranges, or from failed trials, has no effect."""
    search = make_search(RATE, SIZE)
    strangers = [
        finished(1.0, rate="100.0", size="16"),
        finished(1.0, rate="1.0", size="128"),
        finished(1.0, rate="fast", size="16"),
        finished(1.0, rate="1.0"),
        Trial({"rate": "1.0", "size": "16"}, "failed"),
    ]
    assert suggest(search, [], strangers) == suggest(search, [])
    assert suggest(search, [], [finished(1.0, rate="1.0", size="16")]) != suggest(search, [])


@pytest.mark.parametrize("state", ["failed", "stopped", "running", "finished"])
def test_every_state_of_a_trial_can_be_learnt_from(state: Any) -> None:
    """This holds with values and without, however the trial ended."""
    history = [Trial({"rate": "1.0", "size": "16"}, state, values) for values in ([], [0.5], [0.5, 0.6])] * 2
    assert suggest(make_search(RATE, SIZE), history) is not None


def test_the_median_rule_waits_for_three_trials_of_that_length() -> None:
    """The newest value is compared with the median of running averages up to the same epoch, in either direction."""
    previous = [[0.2, 0.4], [0.4, 0.6], [0.6, 0.8]]
    assert judge_median(True, [0.9, 0.49], previous)
    assert not judge_median(True, [0.1, 0.51], previous)
    assert judge_median(False, [0.1, 0.51], previous)
    assert not judge_median(True, [0.0, 0.0], previous[:2])
    assert not judge_median(True, [0.0, 0.0, 0.0], previous)
    assert not judge_median(True, [], previous)


def test_hyperband_lets_the_first_go_on_and_stops_a_worse_one() -> None:
    """In one bracket, the worst of several at a rung is stopped, by means of the pruner's notes."""
    search = make_search(RATE, strategy="Hyperband", resources=(1, 3))
    history: list[Trial] = []
    verdicts = []
    for number in range(12):
        value = 1.0 if number % 2 == 0 else 0.0
        history.append(Trial({"rate": str(1.0 + number / 10)}, "running", [value]))
        stop, notes = judge_hyperband(search, history, number, 1)
        verdicts.append((value, stop))
        history[number] = Trial(history[number].parameters, "stopped" if stop else "running", [value], notes)
    assert not any(stop for value, stop in verdicts if value == 1.0)
    assert any(stop for value, stop in verdicts if value == 0.0)


@pytest.mark.parametrize(
    ("maximize", "values", "best"),
    [(True, [None, 0.5, 0.7, 0.7], 2), (False, [0.5, None, 0.0], 2), (True, [None], None), (True, [], None)],
)
def test_the_best_is_the_first_of_equals(maximize: bool, values: list[float | None], best: int | None) -> None:
    """There is no best trial if none has a value."""
    assert find_best(maximize, values) == best


SPACES = {
    "2 x 2": (Range("a", "categorical", choices=("x", "y")), Range("b", "categorical", choices=("1", "2"))),
    "3 x 4": (SIZE, Range("deep", "int", 1, 4)),
    "3 x 3 x 3": tuple(Range(name, "categorical", choices=("1", "2", "3")) for name in "abc"),
    "12": (Range("n", "int", 1, 12, "Logarithmic"),),
    "1 of 40 values, 2 of 2": (Range("n", "int", 1, 40), Range("a", "categorical", choices=("x", "y"))),
}


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("strategy", ["Bayesian", "Random"])
def test_no_point_is_tried_twice_while_others_are_left(name: str, strategy: str) -> None:
    """With one clear best point, which draws the sampler to it, every trial is new until the space is used up."""
    ranges = SPACES[name]
    points = math.prod(int(item.count_points()) for item in ranges)
    for seed in range(3):
        search, history = make_search(*ranges, strategy=strategy, seed=seed), list[Trial]()
        for _ in range(min(points, 14)):
            drawn = suggest(search, history)
            assert drawn is not None
            history.append(finished(-sum(item.list_values().index(drawn[item.name]) for item in ranges), **drawn))
        assert len({tuple(trial.parameters.values()) for trial in history}) == len(history)
    if points <= 14:
        assert suggest(search, history) is not None


def test_a_large_space_is_not_looked_through() -> None:
    """Where points cannot be listed, another one is drawn."""
    search = make_search(Range("n", "int", 1, 200), Range("m", "int", 1, 200), strategy="Random")
    tried = [Trial({"n": str(number), "m": "1"}, "finished", [0.0]) for number in range(1, 60)]
    assert suggest(search, tried) not in [trial.parameters for trial in tried]


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize(
    ("state", "values"),
    [("failed", []), ("failed", [0.9]), ("finished", []), ("finished", [math.nan]), ("stopped", [0.5, math.nan])],
)
def test_a_trial_that_failed_or_diverged_teaches_to_stay_away(state: Any, values: list[float], maximize: bool) -> None:
    """Rates above 1 fail; once some have, far fewer of them are tried than by a tuner that knows of no failure."""
    sign = 1 if maximize else -1

    def count_high(kind: str) -> int:
        count = 0
        for seed in range(3):
            search, history = make_search(RATE, seed=seed, maximize=maximize), list[Trial]()
            for number in range(16):
                drawn = suggest(search, history)
                assert drawn is not None
                high = float(drawn["rate"]) > 1.0
                count += high and number >= 6
                bad = Trial(drawn, kind, values if kind != "lost" else [])  # type: ignore[arg-type]
                history.append(bad if high else finished(sign * (0.5 + 0.01 * (number % 3)), **drawn))
        return count

    assert count_high(state) < 0.6 * count_high("lost")


def test_what_the_machine_lost_teaches_nothing() -> None:
    """A trial that had no machine says nothing about its hyperparameters."""
    history = [finished(0.1 * number, rate=f"{0.2 + number}", size="16") for number in range(4)]
    lost = Trial({"rate": "1.5", "size": "32"}, "lost")
    search = make_search(RATE, SIZE)
    assert suggest(search, [*history, lost]) != suggest(search, [*history, Trial(lost.parameters, "failed")])


def test_a_value_that_is_no_number_never_wins() -> None:
    """It does not win a comparison, ends a trial under the median rule, and does not spoil that rule for others."""
    assert find_best(True, [math.nan, 0.5, math.inf]) == 1
    assert find_best(False, [-math.inf, math.nan, 0.5]) == 2
    assert find_best(True, [math.nan]) is None
    previous = [[0.2, 0.4], [0.4, 0.6], [0.6, 0.8]]
    assert judge_median(True, [0.9, math.nan], previous)
    assert judge_median(True, [0.9, 0.49], [*previous, [math.nan, math.nan]])


def test_a_warm_start_transfers_from_data_of_another_difficulty() -> None:
    """Parents whose values are all better, or all worse, point to the same place: only their order counts."""
    search, near = make_search(RATE), []
    own = [finished(0.3 + 0.001 * number, rate=f"{8 - number}") for number in range(4)]
    for offset in (-0.3, 0.0, 0.6):
        parents = [
            finished(offset - abs(math.log(rate / 0.3)) / 10, rate=str(rate)) for rate in (0.1, 0.2, 0.3, 0.4, 1.0, 5.0)
        ]
        drawn = [suggest(make_search(RATE, seed=seed), own, parents) for seed in range(5)]
        near.append([point and point["rate"] for point in drawn])
    assert near[0] == near[1] == near[2]
    assert suggest(search, own, parents) != suggest(search, own)
