"""Invocations leave the metrics in CloudWatch that the template's alarms watch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from botocore.exceptions import ClientError

from localcloud.sagemaker.core.meters import Meter
from tests.localcloud.hosting import client
from tests.localcloud.sagemaker.simulation import SimulatedClock
from tests.localcloud.sagemaker_support import LocalSageMaker
from tests.localcloud.serving.endpoint_support import INSTANCE, NAMED_MODEL, Hosting, name_thing, serve_endpoints
from tests.support.alarms import evaluate, read_alarm

FAIL = '    if body == b"fail":\n        raise ValueError("no")\n'
FAILING_MODEL = NAMED_MODEL.replace('    if body == b"slow"', FAIL + '    if body == b"slow"')


@pytest.fixture
def clock() -> SimulatedClock:
    """The time of the meter alone, so that a test decides when metrics are sent."""
    return SimulatedClock()


@pytest.fixture
def hosting(local: LocalSageMaker, clock: SimulatedClock) -> Iterator[Hosting]:
    with serve_endpoints(local) as running:
        local.cloud.meter = Meter(clock, local.client("cloudwatch"))
        yield running
        local.cloud.meter = None


def serve(hosting: Hosting, variant: str) -> str:
    """Serve a model under a variant's name; returns the endpoint's."""
    model, config = hosting.create_model(FAILING_MODEL), name_thing("config")
    variants = [{"VariantName": variant, "ModelName": model} | INSTANCE]
    hosting.sagemaker.create_endpoint_config(EndpointConfigName=config, ProductionVariants=variants)
    return hosting.create_endpoint(config)


def invoke(hosting: Hosting, endpoint: str, *bodies: bytes) -> None:
    for body in bodies:
        with suppress(hosting.runtime.exceptions.ModelError):
            hosting.invoke(endpoint, body)


def read_metrics(hosting: Hosting, endpoint: str) -> dict[str, tuple[float, float]]:
    """Return an endpoint's metrics by name: their sums and numbers of values."""
    cloudwatch = hosting.local.client("cloudwatch")
    listed = cloudwatch.list_metrics(Namespace="AWS/SageMaker")["Metrics"]
    found = {}
    for metric in listed:
        if {"Name": "EndpointName", "Value": endpoint} in metric["Dimensions"]:
            answer = cloudwatch.get_metric_statistics(
                Namespace=metric["Namespace"],
                MetricName=metric["MetricName"],
                Dimensions=metric["Dimensions"],
                StartTime="2020-01-01T00:00:00Z",
                EndTime="2100-01-01T00:00:00Z",
                Period=3_000_000_000,
                Statistics=["Sum", "SampleCount"],
            )
            found[metric["MetricName"]] = (answer["Datapoints"][0]["Sum"], answer["Datapoints"][0]["SampleCount"])
    return found


def test_every_invocation_is_counted_with_its_errors_and_times(hosting: Hosting, clock: SimulatedClock) -> None:
    """Two answers, one refusal (4xx) and one failure (5xx), with the model's time and the rest in microseconds."""
    endpoint = serve(hosting, "whippet-meter")
    invoke(hosting, endpoint, b"hello", b"refuse", b"fail", b"slow")
    assert read_metrics(hosting, endpoint) == {}
    clock.run()
    metrics = read_metrics(hosting, endpoint)
    sums = {name: total for name, (total, _) in metrics.items() if "Latency" not in name}
    assert sums == {
        "Invocations": 4,
        "Invocation4XXErrors": 1,
        "Invocation5XXErrors": 1,
        "InvocationModelErrors": 2,
    }
    assert {count for _, count in metrics.values()} == {4}
    assert 500_000 <= metrics["ModelLatency"][0] <= 20_000_000, "one of them sleeps for half a second"
    assert metrics["OverheadLatency"][0] >= 0


def test_the_alarm_for_failing_endpoints_fires(hosting: Hosting, clock: SimulatedClock) -> None:
    """The template's own alarm tolerates two failures in five minutes, and fires at the third."""
    app = name_thing("app")
    alarm, cloudwatch = read_alarm("EndpointServerErrors", app, "dev"), hosting.local.client("cloudwatch")
    endpoint, other = serve(hosting, f"{app}-dev"), serve(hosting, "somebody-else")
    invoke(hosting, endpoint, b"hello", b"refuse", b"fail", b"fail")
    invoke(hosting, other, b"fail", b"fail", b"fail")
    clock.run()
    assert evaluate(cloudwatch, alarm) == "OK"
    invoke(hosting, endpoint, b"fail")
    clock.run()
    assert evaluate(cloudwatch, alarm) == "ALARM"
    firing = cloudwatch.describe_alarms(StateValue="ALARM")["MetricAlarms"]
    assert alarm["AlarmName"] in [each["AlarmName"] for each in firing]


def test_the_alarm_for_slow_models_looks_at_their_latency(hosting: Hosting, clock: SimulatedClock) -> None:
    """Its threshold is in microseconds, as the metric is: half a second is no alarm at five, and one at a tenth."""
    app = name_thing("app")
    alarm, cloudwatch = read_alarm("EndpointLatency", app, "dev"), hosting.local.client("cloudwatch")
    assert alarm["EvaluationPeriods"] == 3
    invoke(hosting, serve(hosting, f"{app}-dev"), b"slow")
    clock.run()
    one_period = alarm | {"EvaluationPeriods": 1}
    assert evaluate(cloudwatch, one_period) == "OK"
    assert evaluate(cloudwatch, one_period | {"Threshold": 100_000}) == "ALARM"
    assert evaluate(cloudwatch, alarm | {"Threshold": 100_000}) == "OK", "a quarter of an hour has not passed"


def test_a_model_that_does_not_answer_is_an_error_of_the_model(hosting: Hosting, clock: SimulatedClock) -> None:
    """A dead server counts as an invocation that did not end in 2xx, and as neither 4xx nor 5xx, as on AWS."""
    endpoint = serve(hosting, "whippet-meter")
    with pytest.raises(ClientError):
        hosting.invoke(endpoint, b"die")
    clock.run()
    sums = {name: total for name, (total, _) in read_metrics(hosting, endpoint).items()}
    assert (sums["Invocations"], sums["InvocationModelErrors"], sums["Invocation5XXErrors"]) == (1, 1, 0)


def test_a_cloudwatch_that_does_not_answer_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The metrics are lost, and the log says so."""
    clock = SimulatedClock()
    Meter(clock, client("cloudwatch", "http://127.0.0.1:9")).count("dogs", "main", 200, 0.1, 0.2)
    clock.run()
    assert "metrics of 1 endpoints do not reach CloudWatch" in caplog.text
