"""The sweep: what it costs, what it finds, and that no run and no upload holds up another."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.pipeline.intake import look_at_dataset, stop_run
from chalicelib.pipeline.sweep import sweep, take_turns
from tests.fakes.clients import Killed
from tests.fakes.sweeps import count_calls, settle
from tests.fakes.world import World
from tests.support.pictures import build_small_zip

ZIP = build_small_zip()
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_a_recipe_for_old_runs_is_looked_at_for_minutes_only() -> None:
    """The list of the last week does not say what became of it: a few looks bring it in if its event was lost."""
    world = World()
    world.upload("dogs.json", json.dumps({"trials": 0}).encode())
    world.upload("dogs.zip", ZIP)
    settle(world)
    world.clock.sleep(10 * 86_400)
    world.upload("dogs.json", json.dumps({"trials": 2}).encode())
    sweep(world.services())
    assert len(world.list_keys("active/")) == 1
    settle(world)
    world.clock.sleep(10 * 86_400)
    world.upload("dogs.json", json.dumps({"trials": 3}).encode())
    world.clock.sleep(3_600)
    assert count_calls(world) == count_calls(World())


class SlowWorld(World):
    """An account in which copying one dataset takes longer than a function may."""

    def __init__(self, slow: str) -> None:
        super().__init__()
        self.tried: list[str] = []
        plain = self.s3.do_copy_object

        def copy(**request: Any) -> Any:
            self.tried.append(request["CopySource"]["Key"])
            if request["CopySource"]["Key"] == f"datasets/{slow}.zip":
                self.clock.sleep(400)
                raise Killed("the function's time is over")
            return plain(**request)

        self.s3.copy_object = copy  # type: ignore[attr-defined]

    def sweep(self) -> None:
        with contextlib.suppress(Killed):
            sweep(self.services())


@pytest.mark.parametrize("slow", ["a-first", "m-middle", "z-last"])
def test_one_slow_pre_flight_starves_no_other(slow: str) -> None:
    """It takes its own turns alone: every other upload is checked, and runs that are on their way go on each time."""
    world = SlowWorld(slow)
    world.upload("running.zip", ZIP)
    running = look_at_dataset("running", world.services())
    names = sorted(["a-first", "b", "c", "d", "m-middle", "z-last"])
    for name in names:
        world.upload(f"{name}.zip", ZIP)
    world.end_everything()
    world.sweep()
    assert world.read(f"runs/{running}/tuning.json")
    for _ in range(2 * len(names)):
        world.sweep()
        world.clock.sleep(120)
    checked = {world.read(key.replace("dataset.json", "run.json"))["dataset"] for key in find_checked(world)}
    assert checked == {"running", *names} - {slow}
    assert f"datasets/{slow}.zip" in world.tried


def find_checked(world: World) -> list[str]:
    return [key for key in world.list_keys("runs/") if key.endswith("/dataset.json")]


def test_a_fault_of_our_own_in_one_run_stops_no_other() -> None:
    """A run.json that cannot be read is a failure that is told, and the next run goes on."""
    world = World()
    for name in ("cats", "dogs"):
        world.upload(f"{name}.zip", ZIP)
        look_at_dataset(name, world.services())
    [broken, fine] = [key.removeprefix("active/") for key in world.list_keys("active/")]
    world.s3.store(f"runs/{broken}/run.json", b'{"run_id": ')
    world.end_everything()
    failures = sweep(world.services())
    assert len(failures) == 1
    assert broken in failures[0]
    assert world.list_keys(f"runs/{fine}/tuning.json")


def test_turns_are_taken() -> None:
    """In as many sweeps as there are names, each has been the first."""
    names = ["a", "b", "c", "d", "e"]
    orders = [take_turns(names, NOW + timedelta(minutes=2 * number)) for number in range(5)]
    assert sorted(order[0] for order in orders) == names
    assert all(sorted(order) == names for order in orders)
    assert take_turns([], NOW) == []


def test_a_marker_without_a_run_is_forgotten_but_not_one_whose_run_begins_meanwhile() -> None:
    """A look was killed between the two; another look may begin the run while the sweep removes the marker."""
    world = World()
    world.upload("dogs.zip", ZIP)
    run_id = str(look_at_dataset("dogs", world.services()))
    run = world.s3.versions.pop(f"runs/{run_id}/run.json")
    world.clock.sleep(2 * 3_600)
    world.s3.versions.pop("datasets/dogs.zip")
    around = world.trouble.around

    def begin_meanwhile(operation: str, work: Callable[[], Any]) -> Any:
        answer = around(operation, work)
        if operation == "delete_object":
            world.s3.versions[f"runs/{run_id}/run.json"] = run
        return answer

    world.trouble.around = begin_meanwhile  # type: ignore[method-assign]
    sweep(world.services())
    assert world.list_keys("active/") == [f"active/{run_id}"]
    world.trouble.around = around  # type: ignore[method-assign]
    assert stop_run(run_id, "ann", world.services()) in ("tuning", "stopped")
    world.s3.versions.pop(f"runs/{run_id}/run.json")
    world.clock.sleep(2 * 3_600)
    sweep(world.services())
    assert world.list_keys("active/") == []


def test_a_sweep_goes_on_after_a_failure() -> None:
    """A run whose look fails is reported, and the next one is looked at."""
    world = World()
    for name in ("cats", "dogs"):
        world.upload(f"{name}.zip", ZIP)
        look_at_dataset(name, world.services())
    world.end_everything()
    calls = len(world.trouble.calls)
    world.trouble.plan = {calls + 2: "throttle"}
    assert len(sweep(world.services())) == 1
    assert len(world.sagemaker.kept["TrainingJob"]) == 1
