"""Test the way from an upload to a handler, with rules, queues, retries and dead letters, on a real app's functions."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from localcloud.functions.environments import FunctionHost
from localcloud.functions.event_bus import EventBus, normalise
from localcloud.functions.event_delivery import Delivery, parse_rate, subscribe
from localcloud.functions.invoking import FunctionError, Functions
from localcloud.s3.keeper import S3Keeper
from localcloud.server.origin import Origin, Router, make_moto
from localcloud.stacks.provisioning import Function, Stack, TemplateError, provision
from tests.localcloud.hosting import client, forget_buckets, make_guard, no_sagemaker, serve
from tests.localcloud.tiny_app import write_tiny_app

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Any:
    project = write_tiny_app(tmp_path_factory.mktemp("events") / "tiny")
    command = [sys.executable, "-m", "infrastructure.template.build", "--project", str(project), "--stage", "local"]
    subprocess.run([*command, "--to", str(project / "template.json")], cwd=PROJECT, check=True, capture_output=True)
    return json.loads((project / "template.json").read_text())


def wait_until(condition: Callable[[], Any], seconds: float = 15) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)
    return found


@dataclass
class Small:
    """A small cloud: the origin, the stack of the tiny app, and its events delivered to `calls`."""

    url: str
    stack: Stack
    calls: list[tuple[str, dict[str, Any]]]
    outcomes: list[Exception]
    lost: list[str]

    def client(self, service: str) -> Any:
        return client(service, self.url)

    def read_dead_letter(self, function: str) -> Any:
        sqs = self.client("sqs")
        url = sqs.get_queue_url(QueueName=function)["QueueUrl"]
        found = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"]).get("Messages", [])
        return found[0] if found else None


@pytest.fixture
def small(tmp_path: Path, template: Any) -> Iterator[Small]:
    calls: list[tuple[str, dict[str, Any]]] = []
    outcomes: list[Exception] = []
    lost: list[str] = []

    def invoke(function: str, event: dict[str, Any]) -> None:
        calls.append((function, event))
        if outcomes and not function.endswith("tick"):
            raise outcomes.pop(0)

    moto = make_moto()
    wakers: list[Callable[[], None]] = []

    def wake() -> None:
        for each in wakers:
            each()

    bus = EventBus("us-east-1", wake)
    keeper = S3Keeper(moto, tmp_path / "s3", bus.emit)
    origin = Origin(Router(moto, keeper, sent=wake), no_sagemaker, make_guard(tmp_path))
    with serve(origin) as url:
        clients = cache(lambda service: client(service, url))
        stack = provision(template, {"StageName": "local"}, clients)
        subscribe(stack.functions, clients)
        delivery = Delivery(
            stack.functions, invoke, region="us-east-1", lost=lambda name, *_: lost.append(name), waits=(0, 0)
        )
        wakers.append(delivery.wake)
        delivery.start()
        yield Small(url, stack, calls, outcomes, lost)
        delivery.close()
    origin.close()
    keeper.close()
    forget_buckets()
    from moto.core.base_backend import BackendDict

    BackendDict.reset()


def list_calls(small: Small, name: str) -> list[dict[str, Any]]:
    return [event for function, event in small.calls if function.endswith(name)]


def upload(small: Small, key: str) -> None:
    small.client("s3").put_object(Bucket=small.stack.outputs["BucketName"], Key=key, Body=b"zip")


def test_an_upload_reaches_its_handler_in_aws_shape(small: Small) -> None:
    """The event has every member of AWS's envelope and the raw key, and the rule's prefix is obeyed."""
    upload(small, "elsewhere/a.zip")
    upload(small, "datasets/a+b c.zip")
    (event,) = wait_until(lambda: list_calls(small, "on_upload"))
    members = ["version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"]
    assert sorted(event) == sorted(members)
    assert event["detail"]["object"]["key"] == "datasets/a+b c.zip"
    assert event["account"] == "123456789012"
    assert time.strptime(event["time"], "%Y-%m-%dT%H:%M:%SZ")


def test_put_events_reaches_its_handler(small: Small) -> None:
    """A user's own event arrives with its detail unchanged."""
    entry = {"Source": "test", "DetailType": "T", "Detail": '{"a": [1, null]}'}
    assert small.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0
    (event,) = wait_until(lambda: list_calls(small, "on_test"))
    assert (event["source"], event["detail-type"], event["detail"]) == ("test", "T", {"a": [1, None]})


def test_a_failed_event_is_tried_three_times_in_all(small: Small) -> None:
    """There are two retries, and a success ends them."""
    small.outcomes += [FunctionError("E", "first"), RuntimeError("second")]
    upload(small, "datasets/a.zip")
    wait_until(lambda: len(list_calls(small, "on_upload")) == 3)
    assert len({event["id"] for event in list_calls(small, "on_upload")}) == 1
    assert small.lost == []


def test_what_fails_for_good_lies_in_the_functions_dead_letter_queue(small: Small) -> None:
    """The event itself is the message, with the error in its attributes. No other function's queue has it."""
    small.outcomes += [FunctionError("E", f"try {number}") for number in range(3)]
    upload(small, "datasets/a.zip")
    letter = wait_until(lambda: small.read_dead_letter("whippet-local-on_upload-dead-letters"))
    assert json.loads(letter["Body"]) == list_calls(small, "on_upload")[0]
    assert letter["MessageAttributes"]["ErrorMessage"]["StringValue"] == "try 2"
    assert len(list_calls(small, "on_upload")) == 3
    wait_until(lambda: small.lost == ["whippet-local-on_upload"])
    assert small.read_dead_letter("whippet-local-on_test-dead-letters") is None


def test_many_events_at_once_lose_none(small: Small) -> None:
    """A hundred uploads from eight threads cause a hundred calls, each at least once."""

    def put(part: int) -> None:
        for number in range(part, 100, 8):
            upload(small, f"datasets/{number}.zip")

    threads = [threading.Thread(target=put, args=(part,)) for part in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = lambda: Counter(event["detail"]["object"]["key"] for event in list_calls(small, "on_upload"))  # noqa: E731
    wait_until(lambda: len(counts()) == 100)


def test_a_schedule_fires_at_the_start(small: Small) -> None:
    """The work that a killed cloud left goes on at once."""
    (event,) = wait_until(lambda: list_calls(small, "tick"))
    assert (event["source"], event["detail-type"]) == ("aws.events", "Scheduled Event")
    assert event["resources"][0].startswith("arn:aws:events:us-east-1:123456789012:rule/")


def test_a_disabled_rule_delivers_nothing(small: Small) -> None:
    """DisableRule applies to AWS's own events too."""
    events = small.client("events")
    for rule in events.list_rules()["Rules"]:
        if "on_upload" in rule["Name"]:
            events.disable_rule(Name=rule["Name"])
    upload(small, "datasets/a.zip")
    upload(small, "datasets/b.zip")
    events.put_events(Entries=[{"Source": "test", "DetailType": "T", "Detail": "{}"}])
    wait_until(lambda: list_calls(small, "on_test"))
    assert list_calls(small, "on_upload") == []


def test_the_whole_way_with_real_functions(tmp_path: Path, template: Any) -> None:
    """An upload passes rule, queue and process, and its handler writes its result."""
    diary = tmp_path / "diary"
    host = FunctionHost(write_tiny_app(tmp_path / "tiny"), "app", {}, lambda _line: None)
    function = Function("up", "app.on_upload", {"DIARY": str(diary)}, 30, 128, {"rule": {"source": ["aws.s3"]}})
    functions = Functions([function], host, region="us-east-1", log=lambda *_: None)
    moto = make_moto()
    delivery = Delivery([function], functions.invoke, region="us-east-1", lost=lambda *_: None)
    bus = EventBus("us-east-1", delivery.wake)
    router = Router(moto, S3Keeper(moto, tmp_path / "s3", bus.emit))
    with serve(Origin(router, no_sagemaker, make_guard(tmp_path))) as url:
        subscribe([function], lambda service: client(service, url))
        delivery.start()
        bus.emit("aws.s3", "Object Created", {"object": {"key": "datasets/a.zip"}}, [])
        wait_until(diary.exists)
        delivery.close()
    functions.close()
    host.close()
    assert json.loads(diary.read_text()) == ["upload", "datasets/a.zip", "up"]


@pytest.mark.parametrize(
    ("expression", "seconds"), [("rate(1 minute)", 60), ("rate(2 hours)", 7200), ("rate(3 days)", 259_200)]
)
def test_rates(expression: str, seconds: int) -> None:
    """Minutes, hours and days are understood, one or many."""
    assert parse_rate(expression) == seconds


@pytest.mark.parametrize("expression", ["cron(0 12 * * ? *)", "rate(0 minutes)", "rate(5 seconds)", ""])
def test_other_schedules_are_refused_by_name(expression: str) -> None:
    """An unsupported schedule is never ignored."""
    with pytest.raises(TemplateError, match="schedule"):
        parse_rate(expression)


def test_times_are_text() -> None:
    """moto passes seconds since 1970; AWS passes ISO 8601 and no ingestion time."""
    assert normalise({"id": "1", "time": 0.5, "ingestion-time": 1.0}) == {"id": "1", "time": "1970-01-01T00:00:00Z"}
