"""Evaluate the template's alarms on the metrics of a CloudWatch, which moto's own does not do."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).resolve().parents[2] / "infrastructure" / "template" / "resources" / "alarms.json"
QUERY = re.compile(
    r"SELECT (?P<statistic>\w+)\((?P<metric>\w+)\) FROM SCHEMA\(\"(?P<namespace>[^\"]+)\", (?P<dimensions>[\w, ]+)\) "
    r"WHERE (?P<name>\w+) = '(?P<value>[^']+)'"
)


def read_alarm(logical_id: str, app: str, stage: str) -> dict[str, Any]:
    """Return the properties of one of the template's alarms, its names filled in."""
    text = json.dumps(json.loads(TEMPLATE.read_text())["Resources"][logical_id]["Properties"])
    text = re.sub(r'\{"Fn::Sub": ("(?:[^"\\]|\\.)*")\}', r"\1", text)
    properties: dict[str, Any] = json.loads(text.replace("${AppName}", app).replace("${StageName}", stage))
    return properties


def evaluate(cloudwatch: Any, alarm: dict[str, Any]) -> str:
    """Put the alarm, judge it on what its query finds in its evaluation periods, and set and return its state."""
    query = alarm["Metrics"][0]
    values = [read_value(cloudwatch, query, number) for number in range(alarm["EvaluationPeriods"])]
    fires = all(value is not None and value > alarm["Threshold"] for value in values)
    shape = {name: value for name, value in alarm.items() if name != "AlarmActions"}
    cloudwatch.put_metric_alarm(**shape)
    state = "ALARM" if fires else "OK"
    cloudwatch.set_alarm_state(AlarmName=alarm["AlarmName"], StateValue=state, StateReason=f"values {values}")
    return state


def read_value(cloudwatch: Any, query: dict[str, Any], number: int) -> float | None:
    """Return what a query of Metrics Insights finds in the period before last by `number`; None without a value."""
    found = QUERY.fullmatch(query["Expression"])
    assert found, query["Expression"]
    period = timedelta(seconds=query["Period"])
    end = datetime.now(UTC) + timedelta(seconds=1) - number * period
    total = count = 0.0
    for metric in list_metrics(cloudwatch, found):
        answer = cloudwatch.get_metric_statistics(
            **metric,
            StartTime=end - period,
            EndTime=end,
            Period=query["Period"],
            Statistics=["Sum", "SampleCount"],
        )
        total += sum(point["Sum"] for point in answer["Datapoints"])
        count += sum(point["SampleCount"] for point in answer["Datapoints"])
    if not count:
        return None
    return total / count if found["statistic"] == "AVG" else total


def list_metrics(cloudwatch: Any, found: re.Match[str]) -> list[dict[str, Any]]:
    """Return the metrics that have the query's schema and pass its condition."""
    listed = cloudwatch.list_metrics(Namespace=found["namespace"], MetricName=found["metric"])["Metrics"]
    names = set(found["dimensions"].split(", "))
    wanted = {"Name": found["name"], "Value": found["value"]}
    return [
        {name: metric[name] for name in ("Namespace", "MetricName", "Dimensions")}
        for metric in listed
        if {each["Name"] for each in metric["Dimensions"]} == names and wanted in metric["Dimensions"]
    ]
