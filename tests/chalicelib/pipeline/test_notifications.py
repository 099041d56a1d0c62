"""How often a notification goes out when its senders die or cannot mark it: once or twice, never three times."""

from __future__ import annotations

import contextlib
import itertools
from datetime import timedelta

import pytest

from chalicelib.errors import WhippetError
from chalicelib.pipeline.intake import look_at_dataset
from chalicelib.pipeline.notifications import send_notice
from chalicelib.pipeline.observing import observe
from chalicelib.runs.claims import CLAIM_SECONDS
from chalicelib.runs.observation import Observation
from tests.fakes.clients import Killed
from tests.fakes.world import World
from tests.support.pictures import build_small_zip

CALLS = 8  # of a sender that finds another's claim and sends on both channels: at most so many until it has marked
WOUNDS = list(itertools.product(range(2, CALLS + 2), ("before", "after", "throttle")))


NOTICE = "Training Started"
PREFIX = "notices/training-started"


@pytest.fixture(scope="module")
def looked() -> tuple[World, Observation]:
    """A run whose training begins, as a look sees it."""
    world = World()
    world.upload("dogs.zip", build_small_zip())
    run_id = look_at_dataset("dogs", world.services())
    assert run_id
    services = world.services()
    return world, observe(services.runs.get(run_id), services)


def send(world: World, seen: Observation, trouble: dict[int, str]) -> None:
    """Send the notification with trouble at some of its calls. A claim that it leaves behind is free afterwards."""
    begun = len(world.trouble.calls)
    world.trouble.plan = {begun + number: kind for number, kind in trouble.items()}
    with contextlib.suppress(WhippetError, Killed):
        send_notice(NOTICE, seen, world.services())
    world.trouble.plan = {}
    world.clock.time += timedelta(seconds=CLAIM_SECONDS + 1)


def forget(world: World, run_id: str) -> None:
    """Let the notification be one that nobody has tried to send."""
    for key in world.list_keys(f"runs/{run_id}/{PREFIX}"):
        del world.s3.versions[key]
    world.events.sent.clear()
    world.sns.sent.clear()


@pytest.mark.parametrize("first", WOUNDS, ids=str)
def test_a_notification_never_goes_out_three_times(looked: tuple[World, Observation], first: tuple[int, str]) -> None:
    """Two senders come to harm, each at any call: after the third it went out once or twice, and is marked.

    Only where both die, the second between its mark and its sending, may it be lost: once more would be a third time.
    """
    world, seen = looked
    for second in WOUNDS:
        forget(world, seen.run.run_id)
        for number, kind in (first, second):
            send(world, seen, {number: kind})
        send(world, seen, {})
        marks = [key.removeprefix(f"runs/{seen.run.run_id}/{PREFIX}.") for key in sorted(world.s3.versions)]
        assert {"event.json", "message.json"} <= set(marks)
        least = 0 if "throttle" not in (first[1], second[1]) else 1
        for sent in (world.events.sent, world.sns.sent):
            assert least <= len(sent) <= 2, second


@pytest.mark.parametrize("number", [0, 1, 2])
def test_nothing_is_sent_of_a_run_that_is_removed_before_the_claim_is_checked(
    looked: tuple[World, Observation], number: int
) -> None:
    """The marks are gone with the run: a look that began before would send all of it again. It leaves no claim."""
    world, seen = looked
    forget(world, seen.run.run_id)
    kept = dict(world.s3.versions)

    def remove() -> None:
        for key in world.list_keys(seen.run.folder):
            del world.s3.versions[key]

    world.trouble.other = remove
    send(world, seen, {number: "meanwhile"})
    assert (world.events.sent, world.sns.sent, world.list_keys(seen.run.folder)) == ([], [], [])
    world.s3.versions.update(kept)
