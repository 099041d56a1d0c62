"""Let the schedule sweep an account in memory, and count what a sweep asks of AWS."""

from __future__ import annotations

from chalicelib.pipeline.sweep import sweep
from tests.fakes.world import World


def settle(world: World, rounds: int = 6) -> None:
    """Let the schedule sweep and what runs end, until nothing is left to do."""
    for _ in range(rounds):
        sweep(world.services())
        world.end_everything()
        world.clock.sleep(400)
    sweep(world.services())


def count_calls(world: World) -> int:
    """Return how many calls one sweep makes."""
    before = len(world.trouble.calls)
    sweep(world.services())
    return len(world.trouble.calls) - before
