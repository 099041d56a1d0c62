"""An endpoint that wakes up: the route waits for it, within API Gateway's time limit."""

from __future__ import annotations

from datetime import timedelta

import pytest

from chalicelib.errors import ModelNotReady
from chalicelib.models.predictions import Question, predict
from chalicelib.runs.identity import make_endpoint_name
from tests.fakes.clients import fail
from tests.fakes.world import SETTINGS, World

ENDPOINT = make_endpoint_name(SETTINGS, "dogs")
GATEWAY_SECONDS = 29


@pytest.fixture
def sleeping(world: World) -> World:
    world.sagemaker.kept["Endpoint"][ENDPOINT] = {"EndpointName": ENDPOINT, "EndpointStatus": "InService"}
    return world


def ask(world: World) -> float:
    """Ask for a prediction. Returns how many seconds it took."""
    begun = world.clock.time
    predict("dogs", Question(b"picture", "image/png"), world.services())
    return (world.clock.time - begun).total_seconds()


@pytest.mark.parametrize("seconds", [0.2, 5, 14, 22])
def test_a_cold_start_is_waited_out(sleeping: World, seconds: float) -> None:
    """The answer comes soon after the endpoint is awake."""
    sleeping.runtime.awake_at = sleeping.clock.time + timedelta(seconds=seconds)
    assert seconds <= ask(sleeping) <= seconds + 2.1


def test_an_endpoint_that_does_not_wake_is_given_up(sleeping: World) -> None:
    """It gives up within 25 seconds, so that the gateway does not cut the answer off, and says when to ask again."""
    sleeping.runtime.awake_at = sleeping.clock.time + timedelta(seconds=40)
    begun = sleeping.clock.time
    with pytest.raises(ModelNotReady, match="waking up") as refusal:
        ask(sleeping)
    assert 21 < (sleeping.clock.time - begun).total_seconds() <= 25
    assert refusal.value.retry_after == 10
    assert len(sleeping.runtime.asked) > 5


@pytest.mark.parametrize("code", ["ServiceUnavailable", "ModelNotReadyException", "ThrottlingException"])
def test_a_busy_endpoint_is_asked_again(sleeping: World, code: str) -> None:
    """Every code that AWS uses for it counts."""
    sleeping.runtime.answer = fail(code, "wait", "InvokeEndpoint")
    with pytest.raises(ModelNotReady):
        ask(sleeping)
    assert len(sleeping.runtime.asked) > 5


@pytest.mark.parametrize("seconds", [3, 13, 24])
def test_an_answer_that_takes_long_is_waited_for(sleeping: World, seconds: float) -> None:
    """SageMaker may hold the request while the container starts."""
    sleeping.runtime.seconds = seconds
    assert seconds <= ask(sleeping) < seconds + 1
    assert len(sleeping.runtime.asked) == 1


@pytest.mark.parametrize("awake_after", [0, 2, 7, 12, 18, 21])
def test_no_try_outlasts_the_gateway(sleeping: World, awake_after: float) -> None:
    """A request that hangs is given up in time, however late it began."""
    sleeping.runtime.awake_at = sleeping.clock.time + timedelta(seconds=awake_after)
    sleeping.runtime.seconds = 100
    begun = sleeping.clock.time
    with pytest.raises(ModelNotReady):
        ask(sleeping)
    assert (sleeping.clock.time - begun).total_seconds() < GATEWAY_SECONDS - 2
