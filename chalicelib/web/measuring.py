"""Trace the calls of a function and count what they do, with X-Ray and CloudWatch's metrics."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from chalice.app import ConvertToMiddleware

GetResponse = Callable[[Any], Any]
NAMESPACE = "Whippet"
Counted = Mapping[tuple[str, str], Sequence[float]]


class Meter:
    """Tracer and metrics of one app. The tracer is built on first use, because importing X-Ray's recorder is slow."""

    def __init__(self, app_name: str, service: str) -> None:
        self._app_name, self._service = app_name, service
        self._counted: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    @cached_property
    def tracer(self) -> Any:
        from aws_lambda_powertools import Tracer

        return Tracer(service=self._app_name, patch_modules=["botocore"])

    def trace(self, event: Any, get_response: GetResponse) -> Any:
        """Record each call as a segment, without its answer, if X-Ray's daemon is there to take segments."""
        if "AWS_XRAY_DAEMON_ADDRESS" not in os.environ:
            return get_response(event)
        capture: Callable[..., Any] = self._capture
        return ConvertToMiddleware(capture)(event, get_response)

    def _capture(self, handler: Any) -> Any:
        return self.tracer.capture_lambda_handler(handler, capture_response=False)

    def measure(self, event: Any, get_response: GetResponse) -> Any:
        """Write the metrics of a call when the call ends."""
        try:
            return get_response(event)
        finally:
            if self._counted:
                print(write_metrics(self._service, self._counted, time.time()))
                self._counted.clear()

    def count(self, name: str, value: float = 1, unit: str = "Count") -> None:
        self._counted[name, unit].append(float(value))


def write_metrics(service: str, counted: Counted, now: float) -> str:
    """Return the line that CloudWatch reads metrics from: its embedded metric format, with `service` as a dimension.

    powertools writes the same line in a tenth of a millisecond, as long as all the rest that a view does."""
    described = [{"Name": name, "Unit": unit} for name, unit in counted]
    metrics = [{"Namespace": NAMESPACE, "Dimensions": [["service"]], "Metrics": described}]
    line = {"_aws": {"Timestamp": int(now * 1000), "CloudWatchMetrics": metrics}, "service": service}
    return json.dumps(line | {name: values for (name, _), values in counted.items()}, separators=(",", ":"))
