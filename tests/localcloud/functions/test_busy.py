"""Test that a busy function is refused at once beyond Lambda's limit, and never makes others wait."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from localcloud.functions.environments import FunctionHost
from localcloud.functions.gateway import Gateway
from localcloud.functions.invoking import Functions, TooManyRequests
from localcloud.functions.places import NoPlace, Places
from localcloud.functions.refusals import REFUSALS, Refusals
from localcloud.stacks.provisioning import Function
from tests.localcloud.hosting import serve
from tests.localcloud.tiny_app import write_tiny_app

RESOURCES = Path(__file__).parents[3] / "infrastructure" / "template" / "resources" / "api.json"
RESPONSES = json.loads(RESOURCES.read_text())["Resources"]["RestAPI"]["Properties"]["GatewayResponses"]
BODY: dict[str, Any] = {"paths": {"/slow": {"get": {}}, "/quick": {"get": {}}}}
CLIENTS = 40


@dataclass
class Api:
    """The tiny app behind a gateway with the template's responses, and the limit that a test sets."""

    url: str
    limit: list[int]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    host = FunctionHost(write_tiny_app(tmp_path_factory.mktemp("busy") / "tiny"), "app", {}, lambda _line: None)
    known, limit = [Function("api", "app.app", {}, 30, 128)], [50]
    functions = Functions(known, host, region="us-east-1", log=lambda *_: None, read_limit=lambda: limit[0])
    gateway = Gateway(BODY, stage="api", function="api", invoke=functions.answer, responses=RESPONSES)
    with serve(gateway) as url:
        yield Api(f"{url}/api", limit)
    functions.close()
    host.close()


def ask(api: Api, path: str) -> tuple[float, httpx.Response]:
    started = time.perf_counter()
    answer = httpx.get(f"{api.url}{path}", timeout=60)
    return time.perf_counter() - started, answer


def test_forty_clients_of_a_slow_function_do_not_hold_up_a_quick_one(api: Api) -> None:
    """Each call has an environment of its own: the quick ones meanwhile take no second."""
    api.limit[0] = 50
    with ThreadPoolExecutor(CLIENTS) as pool:
        slow = [pool.submit(ask, api, "/slow") for _ in range(CLIENTS)]
        time.sleep(0.5)
        quick = [ask(api, "/quick") for _ in range(5)]
        answers = [each.result()[1].status_code for each in slow]
    assert answers == [200] * CLIENTS
    assert [answer.status_code for _, answer in quick] == [200] * 5
    assert sorted(seconds for seconds, _ in quick)[2] < 1


def test_beyond_the_limit_the_answer_is_the_templates(api: Api) -> None:
    """It comes at once, says when to ask again, and has the form of the app's own errors; what is let in is served."""
    api.limit[0] = 10
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda _: ask(api, "/slow"), range(CLIENTS)))
    served = [answer for _, answer in answers if answer.status_code == 200]
    refused = [(seconds, answer) for seconds, answer in answers if answer.status_code != 200]
    assert len(served) >= 10
    assert refused
    for seconds, answer in refused:
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "NoCapacity")
        assert int(answer.headers["Retry-After"]) > 0
        assert seconds < 5


def test_a_reserved_function_neither_takes_nor_lends() -> None:
    """What is reserved comes off what the others share, and is the function's most."""
    places = Places(lambda: 5, {"reserved": 2})
    with places.take("reserved", wait=False), places.take("reserved", wait=False):
        with pytest.raises(NoPlace), places.take("reserved", wait=False):
            pass
        shared = [places.take(name, wait=False) for name in ("a", "b", "a")]
        for each in shared:
            each.__enter__()
        with pytest.raises(NoPlace), places.take("b", wait=False):
            pass
        for each in shared:
            each.__exit__(None, None, None)
    with places.take("reserved", wait=False):
        pass


def test_who_waits_is_served_before_who_does_not() -> None:
    """Events wait for a place, and a stream of requests does not keep them from it."""
    places, done = Places(lambda: 1, {}), threading.Event()

    def wait_for_place() -> None:
        with places.take("event", wait=True):
            done.set()

    with places.take("api", wait=False):
        waiting = threading.Thread(target=wait_for_place)
        waiting.start()
        time.sleep(0.05)
        assert not done.is_set()
        with pytest.raises(NoPlace), places.take("api", wait=False):
            pass
    assert done.wait(5)
    waiting.join()
    with places.take("api", wait=False):
        pass


def test_a_refused_call_is_lambdas_error(tmp_path: Path) -> None:
    """With nothing begun: no environment is forked for it."""
    host = FunctionHost(tmp_path, "app", {}, lambda _line: None)
    functions = Functions(
        [Function("api", "app.app", {}, 30, 128, reserved=0)], host, region="us-east-1", log=lambda *_: None
    )
    with pytest.raises(TooManyRequests, match="Rate Exceeded"):
        asyncio.run(functions.answer("api", {}))
    assert host._process is None
    functions.close()


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("MISSING_AUTHENTICATION_TOKEN", 404, "NotFound"),
        ("REQUEST_TOO_LARGE", 413, "PayloadTooLarge"),
        ("INTEGRATION_FAILURE", 503, "NoCapacity"),
        ("INTEGRATION_TIMEOUT", 503, "NoAnswer"),
        ("BAD_INTEGRATION_ANSWER", 503, "NoAnswer"),
    ],
)
def test_the_templates_responses_are_api_gateways_answers(kind: str, status: int, code: str) -> None:
    """By their type, else by DEFAULT_5XX; each in the app's own form."""
    answer = Refusals(RESPONSES).answer(kind)
    assert (answer.status_code, json.loads(bytes(answer.body))["error"]["code"]) == (status, code)
    assert (status == 503) == ("retry-after" in answer.headers)


@pytest.mark.parametrize("kind", REFUSALS)
def test_without_responses_api_gateway_answers_in_its_own_words(kind: str) -> None:
    """A status and a message, and DEFAULT_4XX may repeat that message."""
    own, plain = REFUSALS[kind], Refusals({}).answer(kind)
    assert (plain.status_code, json.loads(bytes(plain.body))) == (own.status, {"message": own.message})
    told = {
        "ResponseTemplates": {"application/json": '{"is": "$context.error.message", "s": $context.error.messageString}'}
    }
    answer = Refusals({"DEFAULT_4XX": told, "DEFAULT_5XX": told}).answer(kind)
    assert json.loads(bytes(answer.body)) == {"is": own.message, "s": own.message}
