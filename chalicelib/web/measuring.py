"""Trace the calls of a function and count what they do, with X-Ray and CloudWatch's metrics."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import Any

from chalice.app import ConvertToMiddleware

GetResponse = Callable[[Any], Any]


class Meter:
    """Tracer and metrics of one app. Both are built on first use, because importing X-Ray's recorder is slow."""

    def __init__(self, app_name: str, service: str) -> None:
        self._app_name, self._service = app_name, service

    @cached_property
    def tracer(self) -> Any:
        from aws_lambda_powertools import Tracer

        return Tracer(service=self._app_name, patch_modules=["botocore"])

    @cached_property
    def metrics(self) -> Any:
        from aws_lambda_powertools import Metrics

        return Metrics(namespace="Whippet", service=self._service)

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
            if self.metrics.metric_set:
                self.metrics.flush_metrics()

    def count(self, name: str, value: float = 1, unit: str = "Count") -> None:
        self.metrics.add_metric(name=name, unit=unit, value=value)
