"""Test that functions run as Lambda runs them: one invocation at a time in an environment, killed when they overrun."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from localcloud.functions.environments import FunctionHost
from localcloud.functions.event_bus import build_event
from localcloud.functions.host import LENGTH, Context, read_call, write_call
from localcloud.functions.invoking import FunctionError, Functions, PayloadTooLarge, Plain, encode_event, read_answer
from localcloud.stacks.provisioning import Function
from tests.localcloud.tiny_app import write_tiny_app


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    return tmp_path / "diary"


@pytest.fixture
def printed() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def host(tmp_path: Path, printed: list[tuple[str, str]]) -> Iterator[FunctionHost]:
    host = FunctionHost(write_tiny_app(tmp_path / "tiny"), "app", {}, lambda line: printed.append(("host", line)))
    yield host
    host.close()


@pytest.fixture
def functions(host: FunctionHost, diary: Path, printed: list[tuple[str, str]]) -> Iterator[Functions]:
    told = {"DIARY": str(diary)}
    known = [Function("test", "app.on_test", told, 1, 128), Function("upload", "app.on_upload", told, 30, 128)]
    functions = Functions(known, host, region="us-east-1", log=lambda *line: printed.append(line))
    yield functions
    functions.close()


@pytest.fixture(params=["thread", "loop"])
def invoke(functions: Functions, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return how events invoke a function, and how requests do."""
    if request.param == "thread":
        return functions.invoke
    return lambda *arguments: asyncio.run(functions.answer(*arguments))


def make_event(**detail: Any) -> dict[str, Any]:
    return build_event("test", "Test", detail, [], "us-east-1")


def read_diary(diary: Path) -> list[Any]:
    return [json.loads(line) for line in diary.read_text().splitlines()]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_function_gets_lambdas_variables_and_context(invoke: Callable[..., Any], diary: Path) -> None:
    """The function sees its own name and the identifier of the invocation."""
    invoke("upload", make_event(object={"key": "datasets/a.zip"}))
    invoke("test", make_event(a=1), "request-1")
    assert read_diary(diary) == [["upload", "datasets/a.zip", "upload"], ["test", {"a": 1}, "request-1"]]


def test_what_a_function_raises_is_told(invoke: Callable[..., Any]) -> None:
    """The error's type is reported, and the environment goes on."""
    with pytest.raises(FunctionError, match="no luck") as raised:
        invoke("test", make_event(fail="no luck"))
    assert raised.value.kind == "RuntimeError"
    invoke("test", make_event())


def test_an_overrun_function_is_killed_and_the_next_call_works(
    functions: Functions, invoke: Callable[..., Any], host: FunctionHost
) -> None:
    """The process of the function that overran is gone."""
    functions.warm("test")
    assert host._process is not None
    before = {child.pid for child in psutil.Process(host._process.pid).children()}
    with pytest.raises(FunctionError, match=r"timed out after 1\.00 seconds"):
        invoke("test", make_event(sleep=60))
    wait_until(lambda: not any(psutil.pid_exists(process) for process in before))
    invoke("test", make_event())


def test_a_function_that_ends_its_process_is_an_error(invoke: Callable[..., Any]) -> None:
    """The error is Lambda's Runtime.ExitError, and the next call gets a new environment."""
    with pytest.raises(FunctionError) as raised:
        invoke("test", make_event(exit=True))
    assert raised.value.kind == "Runtime.ExitError"
    invoke("test", make_event())


def test_invocations_at_once_have_environments_of_their_own(functions: Functions, diary: Path) -> None:
    """No invocation waits for another or sees another's event."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: functions.invoke("test", make_event(sleep=0.2, number=number)), range(4)))
    assert sorted(entry[1]["number"] for entry in read_diary(diary)) == [0, 1, 2, 3]


def test_what_a_function_prints_is_logged_between_lambdas_lines(
    functions: Functions, printed: list[tuple[str, str]]
) -> None:
    """The lines are START, the function's own, END, REPORT."""
    functions.invoke("test", make_event(a=1), "request-1")
    wait_until(lambda: ("test", "seen {'a': 1}") in printed)
    words = {line.split()[0] for name, line in printed if name == "test"}
    assert words == {"START", "seen", "END", "REPORT"}


def test_a_dead_host_is_started_again(functions: Functions, host: FunctionHost) -> None:
    """Whatever ended the host, the next environment is forked from a new one."""
    functions.warm("test")
    assert host._process is not None
    host._process.kill()
    host._process.wait()
    functions.invoke("upload", make_event(object={"key": "k"}))


def test_an_app_that_does_not_import_is_told(tmp_path: Path) -> None:
    """The caller gets the error, and the log has the reason."""
    (tmp_path / "broken.py").write_text("raise ValueError('cannot be imported')")
    printed: list[str] = []
    host = FunctionHost(tmp_path, "broken", {}, printed.append)
    functions = Functions([Function("f", "broken.f", {}, 3, 128)], host, region="r", log=lambda *_: None)
    with pytest.raises(FunctionError, match="did not start"):
        functions.invoke("f", {})
    wait_until(lambda: any("cannot be imported" in line for line in printed))


def test_all_processes_end_with_the_control_socket(functions: Functions, host: FunctionHost) -> None:
    """A killed cloud does nothing but close the socket, and that suffices."""
    functions.warm("test")
    functions.warm("upload")
    assert host._process is not None
    assert host._control is not None
    processes = [psutil.Process(host._process.pid), *psutil.Process(host._process.pid).children()]
    assert len(processes) == 3
    host._control.close()
    host._process.wait(10)
    wait_until(lambda: not any(process.is_running() for process in processes))


def test_a_plain_body_is_the_same_event() -> None:
    """Only the writing differs: a reader gets the members, and the limit counts the bytes, of any other event."""
    event = {"httpMethod": "POST", "body": "AAEC/+==", "isBase64Encoded": True, "headers": {"x": 'a"ä'}}
    encoded = encode_event(event | {"body": Plain("AAEC/+==")})
    context = dict.fromkeys(("aws_request_id", "function_name", "memory_limit_in_mb", "log_stream_name"), "x")
    context |= {"invoked_function_arn": "arn", "deadline": 1.0}
    assert read_call(write_call(encoded, context)[LENGTH.size :]) == (event, Context(**context))
    assert len(encoded.document) + len(encoded.body) == len(encode_event(event).document)
    with pytest.raises(PayloadTooLarge):
        encode_event({"body": Plain("x" * 6_291_456), "isBase64Encoded": True})


def test_lambdas_size_limit_holds_both_ways() -> None:
    """Requests and answers are limited to 6 MB of JSON."""
    with pytest.raises(PayloadTooLarge, match="6291456"):
        encode_event("x" * 6_291_456)
    assert len(encode_event("x" * 6_000_000).document) == 6_000_002
    with pytest.raises(PayloadTooLarge):
        read_answer(b"x" * 6_291_457)
