"""Compare programs on several sets by paired seeds, and judge what comes out by the rules of the quality benchmark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean, variance
from typing import Any

from scipy import stats

from benchmarks.results import claim

MEASURES = ("accuracy", "macro_f1", "lowest_recall", "nll", "brier")
MARGIN, WORST, LEVEL = -0.5, -2.0, 0.05  # points, points, and of significance
AHEAD = {"ten to one": 5.0, "left and right": 20.0}  # points by which ours has to lead
Row = Mapping[str, Any]


def describe_comparison(
    rows: Sequence[Row], measures: Mapping[str, str], programs: Sequence[str]
) -> list[dict[str, Any]]:
    """Return what each program reached, and how ours compares with each of the others. measures: that of each set."""
    claims = list(tell_programs(rows, measures, programs))
    for peer in programs[1:]:
        claims += compare(rows, measures, programs[0], peer)
    return claims


def tell_programs(
    rows: Sequence[Row], measures: Mapping[str, str], programs: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield a claim for each set and program, with the means of everything that is measured."""
    for name, measure in measures.items():
        for program in programs:
            own = [row for row in rows if (row["set"], row["program"]) == (name, program)]
            means = {each: round(mean(row[each] for row in own), 4) for each in MEASURES}
            text = f"{name}: {program}, {measure}, {len(own)} seed{'s' if len(own) != 1 else ''}"
            yield claim(text, means[measure], "share", **means, trained=[row["epochs"] for row in own])


def list_gains(rows: Sequence[Row], name: str, measure: str, ours: str, peer: str) -> list[float]:
    """Return by how many points ours is better, seed by seed."""
    found = {(row["program"], row["seed"]): row[measure] for row in rows if row["set"] == name}
    seeds = sorted(seed for program, seed in found if program == ours)
    return [100 * (found[ours, seed] - found[peer, seed]) for seed in seeds]


def compare(rows: Sequence[Row], measures: Mapping[str, str], ours: str, peer: str) -> list[dict[str, Any]]:
    """Return the claims about one peer. With a single seed nothing is known of the spread, and no bound is given."""
    gains = {name: list_gains(rows, name, measure, ours, peer) for name, measure in measures.items()}
    means, chances = {name: mean(values) for name, values in gains.items()}, adjust(list_chances(gains))
    average, several = mean(means.values()), all(len(values) > 1 for values in gains.values())
    claims = [claim(f"{ours} - {peer}: mean over {len(gains)} sets", average, "points")]
    if several:
        lower = average - find_half_width(list(gains.values()))
        claims.append(claim(f"{ours} - {peer}: lower bound of that (95 %)", lower, "points", at_least=MARGIN))
        worse = [name for name in gains if means[name] < WORST and chances[name] < LEVEL]
        text = f"{ours} - {peer}: sets worse by more than {-WORST:g} points (Holm)"
        claims.append(claim(text, len(worse), "sets", at_most=0, sets=worse))
    for name, value in means.items():
        told = {"gains": [round(each, 2) for each in gains[name]]} | ({"holm_p": chances[name]} if several else {})
        text = f"{ours} - {peer}: {name}, {measures[name]}"
        claims.append(claim(text, value, "points", at_least=AHEAD.get(name), **told))
    return claims


def find_half_width(gains: Sequence[Sequence[float]]) -> float:
    """Return how far the one-sided 95 % bound lies below the mean over sets."""
    error = math.sqrt(sum(variance(values) / len(values) for values in gains)) / len(gains)
    freedom = sum(len(values) - 1 for values in gains)
    return float(stats.t.ppf(0.95, freedom)) * error


def list_chances(gains: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the two-sided chance of each set's paired t-test; 1 where all seeds agree that there is no difference."""
    found = {}
    for name, values in gains.items():
        if len(values) < 2 or not any(values):
            found[name] = 1.0
        elif not variance(values):
            found[name] = 0.0
        else:
            found[name] = float(stats.ttest_1samp(values, 0.0).pvalue)
    return found


def adjust(chances: Mapping[str, float]) -> dict[str, float]:
    """Return Holm's adjusted chances."""
    highest, adjusted = 0.0, {}
    for place, (name, chance) in enumerate(sorted(chances.items(), key=lambda pair: pair[1])):
        highest = max(highest, min(1.0, (len(chances) - place) * chance))
        adjusted[name] = round(highest, 5)
    return adjusted
