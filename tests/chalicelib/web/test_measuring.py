"""Test that the metrics of a call are the line that CloudWatch reads them from."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aws_lambda_powertools import Metrics

from chalicelib.web.measuring import Meter


def test_the_line_is_powertools_own(capsys: pytest.CaptureFixture[str]) -> None:
    """The members, their order and their values are the same, but for the time."""
    meter, reference = Meter("whippet", "whippet-dev"), Metrics(namespace="Whippet", service="whippet-dev")

    def work(_event: Any) -> None:
        for name, unit, value in (("Predictions", "Count", 3), ("PredictionTime", "Milliseconds", 1.5)):
            meter.count(name, value, unit)
            reference.add_metric(name=name, unit=unit, value=value)
        meter.count("Predictions")
        reference.add_metric(name="Predictions", unit="Count", value=1)

    meter.measure(None, work)
    ours = capsys.readouterr().out
    reference.flush_metrics()
    theirs = capsys.readouterr().out
    told = [json.loads(line) for line in (ours, theirs)]
    assert abs(told[0]["_aws"].pop("Timestamp") - told[1]["_aws"].pop("Timestamp")) < 10_000
    assert json.dumps(told[0]) == json.dumps(told[1])
    assert len(ours) == len(theirs)


def test_each_call_writes_its_own_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    """They are written also where the call fails, and a call that counted nothing writes nothing."""
    meter = Meter("whippet", "whippet-dev")

    def fail(_event: Any) -> None:
        meter.count("ServerErrors")
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        meter.measure(None, fail)
    meter.measure(None, lambda _event: None)
    assert [json.loads(line)["ServerErrors"] for line in capsys.readouterr().out.splitlines()] == [[1.0]]
