"""What a sweep costs an account that has been used for a while: calls that grow with the active runs alone."""

from __future__ import annotations

import json
from dataclasses import replace

from chalicelib.pipeline.sweep import sweep
from tests.fakes.sweeps import count_calls, settle
from tests.fakes.world import SETTINGS, World
from tests.support.pictures import build_small_zip

ZIP, AGAIN = build_small_zip(), build_small_zip(1)


def make_ended(world: World, count: int) -> None:
    """Let datasets of this week come to their end, in each of the ways that keeps nothing active."""
    for number in range(count):
        body = (ZIP, b"no zip", AGAIN)[number % 3]
        world.upload(f"ended-{number}.zip", body)
        if number % 2:
            world.upload(f"ended-{number}.json", json.dumps({"epochs": 2} if number % 4 == 1 else {"x": 1}).encode())
    settle(world)
    assert world.list_keys("active/") == []


def test_a_sweep_costs_nothing_for_runs_that_have_ended() -> None:
    """Deployed, rejected, with and without a recipe: 24 datasets of this week cost as many calls as none."""
    uncapped = replace(SETTINGS, monthly_cap_usd=0.0)
    empty, full = World(uncapped), World(uncapped)
    make_ended(full, 24)
    assert count_calls(full) == count_calls(empty) <= 4


def test_a_sweeps_calls_grow_with_the_active_runs() -> None:
    """Each active run adds the same number of calls, whatever else there is."""
    counts = []
    for active in (0, 1, 2, 4):
        world = World()
        make_ended(world, 9)
        for number in range(active):
            world.upload(f"active-{number}.zip", ZIP)
        sweep(world.services())
        counts.append(count_calls(world))
    of_one = counts[1] - counts[0]
    assert [count - counts[0] for count in counts] == [0, of_one, 2 * of_one, 4 * of_one]
    assert of_one <= 10
