"""Count the invocations of endpoints, and send CloudWatch the metrics that SageMaker sends.

Each metric goes out as one statistic set per variant and interval, not as a value per request: CloudWatch here is
moto's, which keeps everything in memory. Sources: AWS's guide, "Amazon SageMaker AI endpoint invocation metrics".
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import Any

import botocore.exceptions

from localcloud.common.clock import Clock

log = logging.getLogger(__name__)
NAMESPACE = "AWS/SageMaker"
SEND_SECONDS = 5.0  # on AWS a minute
MICROSECONDS = 1_000_000
MOST_DATA = 900  # PutMetricData takes 1,000 at once
UNITS = {"ModelLatency": "Microseconds", "OverheadLatency": "Microseconds"}
Variant = tuple[str, str]  # endpoint, variant


@dataclass
class Statistics:
    """The statistic set of one metric."""

    count: int = 0
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.least, self.most = min(self.least, value), max(self.most, value)

    def describe(self) -> dict[str, float]:
        """Return the set as PutMetricData takes it."""
        return {"SampleCount": self.count, "Sum": self.total, "Minimum": self.least, "Maximum": self.most}


@dataclass
class Meter:
    """Counts invocations, and sends their metrics through `client`, a boto3 client of CloudWatch. Thread-safe."""

    clock: Clock
    client: Any
    _counted: dict[Variant, dict[str, Statistics]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, endpoint: str, variant: str, status: int, model_seconds: float, all_seconds: float) -> None:
        """Count one invocation. Status 0 stands for a model that did not answer."""
        values = measure(status, model_seconds, all_seconds)
        with self._lock:
            is_first = not self._counted
            metrics = self._counted.setdefault((endpoint, variant), {})
            for name, value in values.items():
                metrics.setdefault(name, Statistics()).add(value)
        if is_first:
            self.clock.call_later(SEND_SECONDS, self.send)

    def send(self) -> None:
        """Send what was counted since the last time. Metrics that CloudWatch does not take are lost."""
        with self._lock:
            counted, self._counted = self._counted, {}
        data = [describe(key, name, each) for key, metrics in counted.items() for name, each in metrics.items()]
        try:
            for start in range(0, len(data), MOST_DATA):
                self.client.put_metric_data(Namespace=NAMESPACE, MetricData=data[start : start + MOST_DATA])
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            log.warning("metrics of %d endpoints do not reach CloudWatch: %s", len(counted), error)


def measure(status: int, model_seconds: float, all_seconds: float) -> dict[str, float]:
    """Return the values of one invocation by metric. AWS sends 0 for each error that did not happen."""
    return {
        "Invocations": 1.0,
        "Invocation4XXErrors": float(400 <= status < 500),
        "Invocation5XXErrors": float(status >= 500),
        "InvocationModelErrors": float(not 200 <= status < 300),
        "ModelLatency": model_seconds * MICROSECONDS,
        "OverheadLatency": (all_seconds - model_seconds) * MICROSECONDS,
    }


def describe(variant: Variant, name: str, statistics: Statistics) -> dict[str, Any]:
    """Return one metric as PutMetricData takes it."""
    names = ("EndpointName", "VariantName")
    return {
        "MetricName": name,
        "Dimensions": [{"Name": each, "Value": value} for each, value in zip(names, variant, strict=True)],
        "StatisticValues": statistics.describe(),
        "Unit": UNITS.get(name, "None"),
    }
