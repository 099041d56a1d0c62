"""Build the alarms of each function and each queue. The whole stack's alarms are in `resources/alarms.json`. Pure."""

from __future__ import annotations

from typing import Any

MINUTES = 60


def alarm_on_errors(function: str, name: str) -> dict[str, Any]:
    """Alarm when a function raised an error or was ended by Lambda."""
    return _alarm(
        f"{name}-errors",
        f"{name} fails. Its log says why; an event is tried twice again, and then lies in the dead-letter queue.",
        {
            "Namespace": "AWS/Lambda",
            "MetricName": "Errors",
            "Dimensions": [{"Name": "FunctionName", "Value": {"Ref": function}}],
            "Statistic": "Sum",
            "Period": 5 * MINUTES,
        },
    )


def alarm_on_queue(queue: str, name: str) -> dict[str, Any]:
    """Alarm when a queue of lost events is not empty."""
    return _alarm(
        f"{name}-waiting",
        f"An event lies in the queue {name}. The sweep makes up for it; read why it failed, then delete or redrive it.",
        {
            "Namespace": "AWS/SQS",
            "MetricName": "ApproximateNumberOfMessagesVisible",
            "Dimensions": [{"Name": "QueueName", "Value": {"Fn::GetAtt": [queue, "QueueName"]}}],
            "Statistic": "Maximum",
            "Period": 5 * MINUTES,
        },
    )


def _alarm(name: str, description: str, metric: dict[str, Any]) -> dict[str, Any]:
    return {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "AlarmName": {"Fn::Sub": name},
            "AlarmDescription": {"Fn::Sub": description},
            **metric,
            "ComparisonOperator": "GreaterThanThreshold",
            "Threshold": 0,
            "EvaluationPeriods": 1,
            "TreatMissingData": "notBreaching",
            "AlarmActions": [{"Ref": "Alarms"}],
        },
    }
