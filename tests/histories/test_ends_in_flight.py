"""A look that is slow to write a run's end, while another look sees that the end is no longer true."""

from __future__ import annotations

import contextlib
from copy import deepcopy

from chalicelib.errors import WhippetError
from chalicelib.pipeline.advance import advance
from chalicelib.pipeline.intake import look_at_dataset
from chalicelib.pipeline.sweep import sweep
from tests.fakes.world import World
from tests.support.pictures import build_colour_zip


def upload(world: World, seed: int) -> str:
    """Upload a version of the dataset. Returns its run's id."""
    world.upload("dogs.zip", build_colour_zip(seed=seed, counts={"train": 3, "valid": 3}))
    return look_at_dataset("dogs", world.services()) or ""


def train(world: World, run_id: str) -> None:
    """Let a run's jobs end, and look at it once less than would deploy it."""
    world.end_tuning(run_id)
    advance(run_id, world.services())
    world.end_training(run_id)


def give_way(world: World) -> tuple[str, str, str]:
    """Let a first run serve, a third one be on its way to the endpoint, and the second be trained only now."""
    world.upload("dogs.json", b'{"promotion": {"when": "always"}}')
    first = upload(world, 0)
    for _ in range(4):
        sweep(world.services())
        world.end_everything()
    advance(first, world.services())
    second = upload(world, 1)
    world.clock.sleep(60)
    third = upload(world, 2)
    train(world, third)
    advance(third, world.services())
    train(world, second)
    return first, second, third


def go_back(world: World, second: str, third: str) -> None:
    """Let the third run's deployment fail, and another look at the second run see that."""
    [name] = world.sagemaker.kept["Endpoint"]
    if world.sagemaker.kept["Endpoint"][name]["EndpointStatus"] == "Updating":
        world.end_deployment(name, reason="health check failed")
        for run_id in (third, second):
            with contextlib.suppress(WhippetError):
                advance(run_id, world.services())


def test_a_run_that_gives_way_is_not_on_the_endpoint() -> None:
    """Whichever call of the slow look the newer run's failure comes before: what serves is deployed, not superseded."""
    before = World()
    _, second, third = give_way(before)
    clean, first_call = deepcopy(before), len(before.trouble.calls)
    assert advance(second, clean.services()) == "superseded"
    for number in range(first_call, len(clean.trouble.calls)):
        world = deepcopy(before)
        world.trouble.plan = {number: "meanwhile"}
        world.trouble.other = lambda world=world: go_back(world, second, third)  # type: ignore[misc]
        with contextlib.suppress(WhippetError):
            advance(second, world.services())
        for _ in range(4):
            world.end_everything()
            world.clock.sleep(400)
            sweep(world.services())
        [endpoint] = world.sagemaker.kept["Endpoint"].values()
        status = world.read(f"runs/{second}/result.json")["status"]
        is_on_it = endpoint["EndpointConfigName"] == second
        assert status == ("deployed" if is_on_it else "superseded"), (number, clean.trouble.calls[number])
