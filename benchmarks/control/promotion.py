"""Measure the champion rule on simulated tables: how often a worse, an equal and a better model goes live.

A table holds the answers of two models to the same images: how many only the new one, and only the live one, has right.
Each set of common images is drawn from a multinomial distribution and judged as the control plane judges it.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np

from benchmarks.results import claim, write_result
from chalicelib.models.promoting import Findings, judge_tests
from chalicelib.recipes.values import Promotion

TABLES, IMAGES, DISCORDANT, SEED = 10_000, 300, 0.12, 13
DIFFERENCES = (-8, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5)  # points
SIZES = (50, 100, 200, 300, 500, 1_000, 2_000, 5_000, 10_000)
PLAN = Promotion()
OUTCOMES = ("deployed", "undecided", "declined")


@cache
def judge(images: int, only_new: int, only_live: int) -> str:
    """Return what becomes of a model with these counts."""
    found = Findings()
    test = {"name": "new", "images": images, "only_new": only_new, "only_live": only_live}
    test |= {"both": images - only_new - only_live, "neither": 0}
    judge_tests(PLAN, {"run": "live", "tests": [test]}, found)
    return "declined" if found.declines else "undecided" if found.asks else "deployed"


def draw(points: float, images: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Draw the discordant counts of many tables whose models differ by so many points."""
    only_new, only_live = (DISCORDANT + points / 100) / 2, (DISCORDANT - points / 100) / 2
    tables = rng.multinomial(images, [only_new, only_live, 1 - DISCORDANT], size=TABLES)
    return [(int(new), int(live)) for new, live, _ in tables]


def simulate(points: float, images: int, rng: np.random.Generator) -> dict[str, float]:
    """Return the share of each outcome."""
    outcomes = Counter(judge(images, *table) for table in draw(points, images, rng))
    return {outcome: outcomes[outcome] / TABLES for outcome in OUTCOMES}


def simulate_two(points: float, images: int, rng: np.random.Generator) -> float:
    """Return the share of models that pass two sets of common images, drawn apart: both have to show it."""
    pairs = zip(draw(points, images, rng), draw(points, images, rng), strict=True)
    return sum(judge(images, *one) == judge(images, *other) == "deployed" for one, other in pairs) / TABLES


def main() -> None:
    rng = np.random.default_rng(SEED)
    by_points = {points: simulate(points, IMAGES, rng) for points in DIFFERENCES}
    equal = {images: simulate(0, images, rng) for images in SIZES}
    told = f"{IMAGES} images, {DISCORDANT:.0%} discordant, {TABLES:,} tables"
    claims = [
        claim(f"a model 3 points worse goes live ({told})", by_points[-3]["deployed"], "share", at_most=0.05),
        claim(f"a model 3 points better goes live ({told})", by_points[3]["deployed"], "share", at_least=0.85),
        claim(f"a model 3 points better is declined ({told})", by_points[3]["declined"], "share", at_most=0.001),
    ]
    for points, shares in by_points.items():
        claims.append(claim(f"{points:+d} points: goes live ({told})", shares["deployed"], "share", **shares))
    for images, shares in equal.items():
        text = f"equal models: goes live ({images:,} images, {DISCORDANT:.0%} discordant)"
        claims.append(claim(text, shares["deployed"], "share", **shares))
    for points in (-3, 0, 3):
        text = f"{points:+d} points: goes live, where a second set of {IMAGES} images drawn apart has to show it too"
        claims.append(claim(text, simulate_two(points, IMAGES, rng), "share"))
    write_result("promotion", claims, ["numpy"])


if __name__ == "__main__":
    main()
