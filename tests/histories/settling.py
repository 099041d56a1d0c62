"""Let an account in memory come to rest."""

from __future__ import annotations

import contextlib

from chalicelib.errors import WhippetError
from chalicelib.pipeline.sweep import sweep
from tests.fakes.clients import Killed
from tests.fakes.world import World


def go_on(world: World) -> None:
    """Sweep, let everything that runs end, and let so much time pass that claims of the killed expire."""
    with contextlib.suppress(WhippetError, Killed):
        sweep(world.services())
    world.end_everything()
    world.clock.sleep(400)


def come_to_rest(world: World, rounds: int) -> bool:
    """Go on until nothing is left to do, for so many rounds at most. Return whether the world came to rest.

    It has when it was at rest for two rounds: by the second, claims of the killed have expired.
    """
    at_rest = 0
    for _ in range(rounds):
        go_on(world)
        at_rest = at_rest + 1 if world.is_at_rest() else 0
        if at_rest == 2:
            return True
    return False
