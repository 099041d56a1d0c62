"""Whatever is doubled, lost, delayed, throttled or killed: in the end there is one of everything, and an answer."""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import WhippetError
from chalicelib.pipeline.advance import advance
from chalicelib.pipeline.intake import advance_by_endpoint, look_at_dataset, stop_run
from chalicelib.pipeline.sweep import sweep
from tests.fakes.clients import Killed
from tests.fakes.world import World
from tests.histories.settling import come_to_rest
from tests.support.pictures import build_colour_zip

ZIP = build_colour_zip(counts={"train": 3, "valid": 3})
ZIP_AGAIN = build_colour_zip(seed=1, counts={"train": 3, "valid": 3})
ONE_OF_EACH = {
    "CreateHyperParameterTuningJob": 1,
    "CreateTrainingJob": 1,
    "CreateModel": 1,
    "CreateEndpointConfig": 1,
    "CreateEndpoint": 1,
}
KINDS = st.sampled_from(["throttle", "before", "after", "meanwhile", "meanwhile", "meanwhile after"])
TROUBLES = st.dictionaries(st.integers(0, 160), KINDS, max_size=6)
EVENTS = st.lists(
    st.tuples(st.sampled_from(["upload", "tuning", "training", "endpoint", "sweep"]), st.booleans()), max_size=12
)


def make_world(trouble: dict[int, str]) -> World:
    """Build an account with an upload, in which functions meet this trouble."""
    world = World()
    world.upload("dogs.zip", ZIP)
    world.trouble.plan = trouble
    world.trouble.other = lambda: deliver_much(world)
    return world


def deliver_much(world: World) -> None:
    """Do what may happen elsewhere between two calls: a look, the end of what runs, and another look."""
    deliver(world, "sweep")
    world.end_everything()
    deliver(world, "sweep")


def deliver(world: World, event: str) -> None:
    """Deliver one event to a fresh function, which may fail or be killed: then nothing brings the event back."""
    run_ids = [key.split("/")[1] for key in world.list_keys("runs/") if key.endswith("/run.json")]
    services = world.services()
    with contextlib.suppress(WhippetError, Killed):
        if event == "upload":
            look_at_dataset("dogs", services)
        elif event == "sweep":
            sweep(services)
        for run_id in run_ids if event in ("tuning", "training") else ():
            advance(run_id, services)
        for name in list(world.sagemaker.kept["Endpoint"]) if event == "endpoint" else ():
            advance_by_endpoint(name, services)


def settle(world: World) -> None:
    """Without further trouble, let everything end and the schedule sweep until nothing is left to do."""
    world.trouble.plan = {}
    if not come_to_rest(world, 12):
        deliver(world, "sweep")


def count_created(world: World) -> dict[str, int]:
    return {f"Create{title}": len(kept) for title, kept in world.sagemaker.kept.items()}


@settings(max_examples=50, deadline=None)
@given(events=EVENTS, trouble=TROUBLES)
def test_one_of_everything_whatever_happens(events: list[tuple[str, bool]], trouble: dict[int, str]) -> None:
    """With events in any order, throttled calls and killed functions: one deployed run, and each step announced."""
    world = make_world(trouble)
    for event, ends in events:
        deliver(world, event)
        if ends:
            world.end_everything()
    settle(world)
    [key] = [key for key in world.list_keys("runs/") if key.endswith("/result.json")]
    assert world.read(key)["status"] == "deployed"
    assert count_created(world) == ONE_OF_EACH
    assert len(world.s3.versions[key.replace("result.json", "report.html")]) == 1
    assert world.list_keys("active/") == []
    told = Counter(name for name, _ in world.events.sent)
    assert set(told) == {"Tuning Started", "Training Started", "Deployment Started", "Model Deployed"}
    if set(trouble.values()) <= {"meanwhile"}:
        assert set(told.values()) == {1}
        assert len(world.sns.sent) == 4


def stop_all(world: World) -> None:
    """Let a person stop every run there is."""
    for key in world.list_keys("runs/"):
        if key.endswith("/run.json"):
            with contextlib.suppress(WhippetError, Killed):
                stop_run(key.split("/")[1], "ann", world.services())


@settings(max_examples=50, deadline=None)
@given(events=EVENTS, trouble=TROUBLES, at=st.integers(0, 12))
def test_a_stop_leaves_nothing_running(events: list[tuple[str, bool]], trouble: dict[int, str], at: int) -> None:
    """A person's stop at any moment ends in `stopped` with no job and no endpoint, or was too late: `deployed`."""
    world = make_world(trouble)
    world.trouble.other = lambda: stop_all(world)
    for number, (event, ends) in enumerate([("upload", False), *events]):
        if number >= at:
            stop_all(world)
        deliver(world, event)
        if ends:
            world.end_everything()
    settle(world)
    [key] = [key for key in world.list_keys("runs/") if key.endswith("/result.json")]
    status = world.read(key)["status"]
    assert status in ("stopped", "deployed")
    assert bool(world.sagemaker.kept["Endpoint"]) == (status == "deployed")
    assert key.replace("result.json", "report.html") in world.list_keys("runs/")
    for title in ("HyperParameterTuningJob", "TrainingJob"):
        assert all(
            job[f"{title}Status"] not in ("InProgress", "Stopping") for job in world.sagemaker.kept[title].values()
        )
    assert world.list_keys("active/") == []


@settings(max_examples=50, deadline=None)
@given(events=EVENTS, trouble=TROUBLES, again=st.integers(0, 12))
def test_the_newer_upload_wins(events: list[tuple[str, bool]], trouble: dict[int, str], again: int) -> None:
    """A second upload at any moment: every run ends, and the endpoint serves the newest, where all may go live."""
    world = make_world(trouble)
    world.upload("dogs.json", b'{"promotion": {"when": "always"}}')
    for number, (event, ends) in enumerate([*events, ("sweep", True)]):
        deliver(world, event)
        if number == min(again, len(events)):
            world.upload("dogs.zip", ZIP_AGAIN)
        if ends:
            world.end_everything()
    settle(world)
    runs = [world.read(key) for key in world.list_keys("runs/") if key.endswith("/run.json")]
    statuses = {run["run_id"]: world.read(f"runs/{run['run_id']}/result.json")["status"] for run in runs}
    newest = max(runs, key=lambda run: (run["created_at"], run["run_id"]))["run_id"]
    assert statuses[newest] == "deployed"
    assert set(statuses.values()) <= {"deployed", "superseded"}
    [endpoint] = world.sagemaker.kept["Endpoint"].values()
    assert endpoint["EndpointConfigName"] == newest
    assert world.sagemaker.count("CreateEndpoint") >= 1
    assert world.list_keys("active/") == []


def find_call(operation: str) -> int:
    """Return the number of a call in a history without trouble."""
    world = make_world({})
    sweep_and_end(world)
    return world.trouble.calls.index(operation)


def sweep_and_end(world: World) -> None:
    """Let the schedule sweep twice before each end of what runs."""
    for _ in range(4):
        deliver(world, "sweep")
        deliver(world, "sweep")
        world.end_everything()


@pytest.mark.parametrize("kind", ["meanwhile", "meanwhile after"])
@pytest.mark.parametrize("operation", ["create_hyper_parameter_tuning_job", "create_training_job", "create_endpoint"])
def test_a_stop_right_before_a_launch_stops_what_is_launched(operation: str, kind: str) -> None:
    """A look has decided to launch, a person stops the run, and only then it launches; it may be killed after that."""
    world = make_world({find_call(operation): kind})
    world.trouble.other = lambda: stop_all(world)
    sweep_and_end(world)
    settle(world)
    [key] = [key for key in world.list_keys("runs/") if key.endswith("/result.json")]
    ends_deployed = operation == "create_endpoint"  # the lease was held: too late
    assert world.read(key)["status"] == ("deployed" if ends_deployed else "stopped")
    assert world.sagemaker.count("StopHyperParameterTuningJob") == (operation == "create_hyper_parameter_tuning_job")
    assert world.sagemaker.count("StopTrainingJob") == (operation == "create_training_job")
