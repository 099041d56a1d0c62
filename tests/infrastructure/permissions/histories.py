"""Collect what each function calls, by driving its handler through every point of a run at which its event may come.

Somebody else moves the run and is killed at one call after another. Then the function's own event comes, and comes
again whenever something has ended, until the run's end. So each function takes every step that it could ever have to
take.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import app
from chalicelib.errors import WhippetError
from chalicelib.pipeline.sweep import sweep
from chalicelib.runs.tombstones import Tombstone, name_tombstone, write_tombstone
from chalicelib.settings import Settings
from localcloud.iam.call_log import Recorded
from localcloud.iam.permissions import list_needs
from localcloud.protocol.calls import Call
from tests.fakes.clients import Client, Killed
from tests.fakes.others import FakeLogs
from tests.fakes.world import World
from tests.support.pictures import build_colour_zip

ZIP = build_colour_zip()
ZIP_AGAIN = build_colour_zip(seed=1)
UPLOAD = "0" * 32
RECORD = {"key": "datasets/cats.zip", "upload_id": "parts-of-datasets/cats.zip", "parts": 1, "size": 9}
BODIES = {  # of the routes whose calls depend on what they are sent
    "/models/{name}/predict": ["picture", json.dumps({"upload": UPLOAD})],
    "/uploads": [
        json.dumps({"kind": "image", "size": 1_000_000}),
        json.dumps({"kind": "dataset", "name": "cats", "size": 1_000_000}),
        json.dumps({"kind": "dataset", "name": "cats", "size": 1_000_000_000}),
    ],
    "/runs/{run_id}/retry": ["", "{}"],
    "/datasets/{name}/recipe": ["{}"],
    "/uploads/{id}/complete": [json.dumps({"parts": [{"number": 1, "etag": "e"}]})],
}
MOST_RUNS = 4
GHOST = "whippet-local-dogs-00000000"  # a run that was removed
LISTED = f"index/8204694399992/{GHOST}/"
SERVICES = {
    "FakeS3": "s3",
    "FakeSageMaker": "sagemaker",
    "LogsOfEveryJob": "logs",
    "FakeRuntime": "sagemaker",
    "FakeAutoscaling": "application-autoscaling",
    "FakeEvents": "events",
    "FakeSns": "sns",
    "FakeSecrets": "secretsmanager",
}


@dataclass
class Recorder:
    """Records what one function called in all its histories."""

    function: str
    calls: set[Recorded] = field(default_factory=set)
    is_on: bool = False
    left: list[Any] = field(default_factory=list)  # what killed functions have left so far

    def hear(self, client: Client, name: str, request: dict[str, Any]) -> None:
        if self.is_on:
            service = SERVICES[type(client).__name__]
            operation = "".join(word.capitalize() for word in name.split("_"))
            needs = tuple(list_needs(Call(service, operation, request), "us-east-1"))
            self.calls.add(Recorded(self.function, service, operation, needs))

    def mute(self, work: Callable[[], None]) -> None:
        """Record nothing that somebody else does meanwhile."""
        was_on, self.is_on = self.is_on, False
        work()
        self.is_on = was_on

    @contextmanager
    def listening(self) -> Iterator[None]:
        self.is_on = True
        try:
            yield
        finally:
            self.is_on = False


class LogsOfEveryJob(FakeLogs):
    """Every job has written a line."""

    def do_describe_log_streams(self, logGroupName: str, logStreamNamePrefix: str) -> Any:
        self.lines[logStreamNamePrefix.rstrip("/")] = ["a line"]
        return super().do_describe_log_streams(logGroupName, logStreamNamePrefix)


def make_world(settings: Settings, recorder: Recorder) -> World:
    """Return an account with an upload, whose calls the recorder records."""
    world = World(settings)
    world.logs = LogsOfEveryJob(world)
    world.hear = recorder.hear
    world.upload("dogs.zip", ZIP)
    world.s3.store(f"uploads/{UPLOAD}", b"picture")
    return world


def move(world: World) -> None:
    """Let somebody else look at every run, and possibly be killed."""
    with contextlib.suppress(WhippetError, Killed):
        sweep(world.services())


def react(world: World, recorder: Recorder) -> None:
    """Deliver the function's own event, if there is anything to report."""
    app.services.use(world.services())
    for handler, event in list_events(world, recorder.function):
        with recorder.listening(), contextlib.suppress(WhippetError):
            handler(event, None)


def list_events(world: World, function: str) -> list[tuple[Any, dict[str, Any]]]:
    """List the events that could reach a function now."""
    kept, handler = world.sagemaker.kept, getattr(app, function)
    detail: list[dict[str, Any]] = []
    if function == "sweep":
        return [(handler, make_event({}))]
    if function == "on_dataset_uploaded":
        detail = [
            {"bucket": {"name": world.settings.bucket}, "object": {"key": key}} for key in world.list_keys("datasets/")
        ]
    elif function == "on_tuning_job_changed":
        detail = [{"HyperParameterTuningJobName": name} for name in kept["HyperParameterTuningJob"]]
    elif function == "on_training_job_changed":
        detail = [{"TrainingJobName": name} for name in kept["TrainingJob"]]
    elif function == "on_endpoint_changed":
        detail = [{"EndpointName": name} for name in kept["Endpoint"]]
    elif function == "app":
        return [(handler, request) for request in list_requests(world)]
    return [(handler, make_event(each)) for each in detail]


def make_event(detail: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "0",
        "id": "0",
        "detail-type": "it",
        "source": "us",
        "account": "123456789012",
        "time": "2026-11-25T00:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": detail,
    }


def list_requests(world: World, methods: tuple[str, ...] = ("GET", "POST"), last: str = "") -> list[dict[str, Any]]:
    """List every route for the dataset and a few of its runs; those that end something are told by method or last word.

    What is retried becomes a run of its own: with all of them the runs would double at each turn.
    """
    runs = [key.split("/")[1] for key in world.list_keys("runs/") if key.endswith("/run.json")][:MOST_RUNS]
    world.s3.store(f"uploads/{UPLOAD}.json", json.dumps(RECORD).encode())
    return [
        make_request(
            method, resource, {"name": "dogs", "run_id": run, "id": UPLOAD, "folder": "run", "proxy+": "nowhere"}, body
        )
        for resource, methods_of in sorted(app.app.routes.items())
        for method in methods_of
        if method in methods and (last in resource if last else not resource.endswith("/stop"))
        for run in (runs if "{run_id}" in resource else [""])
        for body in BODIES.get(resource, ["picture"])
    ]


def make_request(method: str, resource: str, values: dict[str, str], body: str) -> dict[str, Any]:
    """Build API Gateway's event for a request to a route."""
    parameters = {name: value for name, value in values.items() if f"{{{name}}}" in resource}
    kind = "application/json" if body.startswith("{") else "image/png"
    return {
        "httpMethod": method,
        "headers": {"authorization": "Bearer ann-token", "content-type": kind},
        "multiValueQueryStringParameters": None,
        "pathParameters": parameters or None,
        "requestContext": {"resourcePath": resource, "path": resource.format(**values), "httpMethod": method},
        "stageVariables": None,
        "body": body,
        "isBase64Encoded": False,
    }


def go_on(world: World, recorder: Recorder, rounds: int = 4) -> None:
    """Deliver the function's events and end what runs, in turns."""
    leave_checkpoints(world)
    for _ in range(rounds):
        react(world, recorder)
        world.end_everything()
        world.clock.sleep(400)  # claims of the killed expire
    react(world, recorder)


def leave_checkpoints(world: World) -> None:
    """Leave the files with which a stopped job of each run would resume."""
    for key in world.list_keys("runs/"):
        if key.endswith("/run.json"):
            world.s3.store(key.replace("run.json", "jobs/trial/checkpoint.pt"), b"weights")


def move_on(world: World, rounds: int = 5) -> None:
    """Let somebody else take the run as far as it goes, unless killed."""
    for _ in range(rounds):
        move(world)
        world.end_everything()
        world.clock.sleep(400)


def count_calls(settings: Settings) -> int:
    """Count the calls of a run's whole life."""
    world = make_world(settings, Recorder("nobody"))
    move_on(world)
    return len(world.trouble.calls)


def tell_histories(function: str, settings: Settings) -> set[Recorded]:
    """Return everything that a function calls."""
    recorder = Recorder(function)
    calls = count_calls(settings)
    for begin, every in ((make_world, 1), (begin_again, 2), (begin_after_a_fault, 2)):
        world = begin(settings, recorder)
        for number in range(0, calls, every):
            tell_of_a_kill(copy_world(world, recorder), number, recorder)
        for number in range(0, 60, 2):
            tell_of_two_at_once(copy_world(world, recorder), number, recorder)
    for rounds in range(4):
        for tell in STORIES:
            tell(rounds, recorder, settings)
    return recorder.calls


def copy_world(world: World, recorder: Recorder) -> World:
    """Another account like this one, heard by the same recorder."""
    return deepcopy(world, {id(recorder): recorder})


def begin_again(settings: Settings, recorder: Recorder) -> World:
    """Return an account whose dataset is deployed and uploaded again."""
    world = make_world(settings, recorder)
    move_on(world, 4)
    world.upload("dogs.zip", ZIP_AGAIN)
    return world


def begin_after_a_fault(settings: Settings, recorder: Recorder) -> World:
    """Return the same, but with a failed endpoint, which only a deletion repairs."""
    world = begin_again(settings, recorder)
    for name in world.sagemaker.kept["Endpoint"]:
        world.end_deployment(name, "Failed", "it broke")
    return world


def tell_of_a_kill(world: World, number: int, recorder: Recorder) -> None:
    """Kill whoever moves the run after one call; the function has to continue from there."""
    begun = len(world.trouble.calls)
    world.trouble.plan = {begun + number: "after"}
    for _ in range(6):
        move(world)
        if len(world.trouble.calls) > begun + number:
            break
        world.end_everything()
        world.clock.sleep(400)
    state = (world.s3.versions, world.s3.hidden, world.sagemaker.kept, world.autoscaling.targets)
    if state in recorder.left:
        return
    recorder.left.append(deepcopy(state))
    world.trouble.plan = {}
    world.clock.sleep(400)
    go_on(world, recorder)


def tell_of_two_at_once(world: World, number: int, recorder: Recorder) -> None:
    """Let somebody else look between two calls of the function, so that what it wants to create already exists."""
    if recorder.function not in ("sweep", "on_dataset_uploaded"):
        move(world)
    world.trouble.other = lambda: recorder.mute(lambda: move(world))
    for _ in range(4):
        world.trouble.plan = {len(world.trouble.calls) + number: "meanwhile"}
        react(world, recorder)
        world.end_everything()


def tell_of_a_stop(rounds: int, recorder: Recorder, settings: Settings) -> None:
    """Stop the run at one of its stages, for the dataset's first run or a later one."""
    for begin in (make_world, begin_again):
        world = begin(settings, recorder)
        for _ in range(rounds):
            move(world)
            world.end_everything()
        move(world)
        for key in world.list_keys("runs/"):
            if key.endswith("/run.json") and key.replace("run.json", "result.json") not in world.s3.versions:
                world.s3.store(key.replace("run.json", "stop.json"), json.dumps({"by": "ann", "at": "now"}).encode())
        go_on(world, recorder)


def tell_of_a_failure(rounds: int, recorder: Recorder, settings: Settings) -> None:
    """Let trials, the training or both fail; then upload the dataset again."""
    world = make_world(settings, recorder)
    world.trial_scores = [None, None] if rounds % 2 else [0.8, 0.9]
    world.score = None if rounds > 1 else 0.3
    move(world)
    go_on(world, recorder)
    world.upload("dogs.zip", b"no zip")
    move(world)
    go_on(world, recorder)


def tell_of_no_machine(rounds: int, recorder: Recorder, settings: Settings) -> None:
    """Use an endpoint on machines, of which AWS has none of the first type or the account may have none."""
    world = make_world(settings, recorder)
    types = ["ml.m5.large", "ml.m5.xlarge"]
    recipe = {"endpoint": {"kind": "instance"}, "instance_types": {"endpoint": types}}
    world.upload("dogs.json", json.dumps(recipe).encode())
    world.sagemaker.quotas = {types[0]: 0} if rounds % 2 else {}
    move_on(world, rounds)
    move(world)
    for _ in range(5):
        react(world, recorder)
        for name, endpoint in world.sagemaker.kept["Endpoint"].items():
            if endpoint["EndpointStatus"] == "Creating" and types[0] in world.sagemaker.list_types(
                "Endpoint", endpoint
            ):
                world.end_deployment(name, "Failed", "InsufficientInstanceCapacity: there is none.")
        react(world, recorder)
        world.end_everything()
        world.clock.sleep(400)


def tell_of_another_upload(rounds: int, recorder: Recorder, settings: Settings) -> None:
    """Upload the dataset again while the endpoint serves, has failed, or is being created."""
    world = make_world(settings, recorder)
    move_on(world, 2 + rounds)
    if rounds % 2:
        for name in world.sagemaker.kept["Endpoint"]:
            world.end_deployment(name, "Failed", "it broke")
    world.upload("dogs.zip", ZIP_AGAIN)
    world.upload("cats.tar", b"a stray upload")
    move(world)
    go_on(world, recorder)
    react(world, recorder)


def tell_of_endings(rounds: int, recorder: Recorder, settings: Settings) -> None:
    """Stop the run by its route, or delete the model."""
    if recorder.function != "app":
        return
    world = make_world(settings, recorder)
    move_on(world, rounds)
    move(world)
    for methods, last in ((("POST",), "/stop"), (("DELETE",), ""), (("DELETE",), "")):
        leave_checkpoints(world)
        app.services.use(world.services())
        for request in list_requests(world, methods, last):
            with recorder.listening():
                app.app(request, None)
        world.end_everything()
        world.clock.sleep(4000)  # a stopped run is looked at for a while
    go_on(world, recorder)


def tell_of_trouble(rounds: int, recorder: Recorder, settings: Settings) -> None:
    """A call of the function fails once, or a quota is used up for a while: what that has left is cleared away."""
    for number in range(4, 28, 6):
        world = make_world(settings, recorder)
        move_on(world, rounds)
        move(world)
        for plan in ({len(world.trouble.calls) + number: "error"}, {}):
            world.trouble.plan = dict(plan)
            stop(world, recorder)
            react(world, recorder)
        go_on(world, recorder, 2)
    for kind in ("HyperParameterTuningJob", "TrainingJob", "Model"):
        for begin in (make_world, begin_again):
            world = begin(settings, recorder)
            world.sagemaker.limits = {kind}
            move_on(world, rounds)
            react(world, recorder)
            world.sagemaker.limits = set()
            recorder.mute(lambda world=world: kill_at_a_launch(world))  # type: ignore[misc]
            stop(world, recorder)
            go_on(world, recorder, 2)


def stop(world: World, recorder: Recorder) -> None:
    """A person asks the routes to stop every run, where the routes' function is the one that is heard."""
    app.services.use(world.services())
    for request in list_requests(world, ("POST",), "/stop") if recorder.function == "app" else ():
        with recorder.listening():
            app.app(request, None)


def kill_at_a_launch(world: World) -> None:
    """Somebody else's look is killed right after it has created something."""
    around = world.trouble.around

    def kill(operation: str, work: Callable[[], Any]) -> Any:
        answer = around(operation, work)
        if operation.startswith("create_"):
            raise Killed(operation)
        return answer

    world.trouble.around = kill  # type: ignore[method-assign]
    move(world)
    world.trouble.around = around  # type: ignore[method-assign]


def tell_of_a_removal(rounds: int, recorder: Recorder, settings: Settings) -> None:
    """The dataset was removed, and looks in flight have written about its run since; or it is uploaded again."""
    if recorder.function == "app":
        nothing = World(settings)
        nothing.hear = recorder.hear
        app.services.use(nothing.services())
        with recorder.listening():
            app.app(make_request("DELETE", "/datasets/{name}", {"name": "dogs"}, ""), None)
    world = make_world(settings, recorder)
    world.trial_scores = [None] if rounds == 1 else world.trial_scores
    move_on(world, (0, 2, 3, 5)[rounds])
    tombstone = Tombstone(name_tombstone(settings, "dogs"), "dogs", {GHOST: [LISTED]})
    recorder.mute(lambda: write_tombstone(world.services().bucket, tombstone))
    for key in (f"active/{GHOST}", f"runs/{GHOST}/x.json", f"{LISTED}dogs/0-checking"):
        world.s3.store(key, b'{"dataset": "dogs"}')
    react(world, recorder)
    if rounds > 1:
        del world.s3.versions["datasets/dogs.zip"]
    world.clock.sleep(400)
    for _ in range(3):
        react(world, recorder)
        world.end_everything()
        world.end_deletions()
        world.clock.sleep(400)


STORIES: tuple[Callable[[int, Recorder, Settings], None], ...] = (
    tell_of_a_stop,
    tell_of_a_failure,
    tell_of_no_machine,
    tell_of_another_upload,
    tell_of_endings,
    tell_of_trouble,
    tell_of_a_removal,
)
