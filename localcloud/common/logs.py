"""Send a job's or an endpoint's output to CloudWatch Logs."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime
from typing import Any

import botocore.exceptions

log = logging.getLogger(__name__)
MOST_EVENTS = 1000  # PutLogEvents takes at most 10,000 events and 1 MB; a line is cut at LONGEST_LINE
LONGEST_LINE = 900


class LogStream:
    """One stream of a log group, created at the first lines. `client` is a boto3 client of CloudWatch Logs, or None.

    A fault of the log service never stops a job: it is logged here once, and later lines are sent all the same.
    """

    def __init__(self, client: Any, group: str, stream: str) -> None:
        self._client = client
        self._group = group
        self._stream = stream
        self._made = False
        self._complained = False

    def write(self, lines: list[str], now: datetime) -> None:
        """Append the lines, all with this time."""
        if self._client is None or not lines:
            return
        try:
            self._make()
            for start in range(0, len(lines), MOST_EVENTS):
                self._put(lines[start : start + MOST_EVENTS], now)
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            if not self._complained:
                log.warning("lines of %s do not reach CloudWatch Logs: %s", self._stream, error)
            self._complained = True

    def delete(self) -> None:
        """Delete the stream with its lines; a fault of the log service leaves it."""
        with suppress(botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
            self._client.delete_log_stream(logGroupName=self._group, logStreamName=self._stream)

    def _put(self, lines: list[str], now: datetime) -> None:
        moment = int(now.timestamp() * 1000)
        # the service refuses an empty message
        events = [{"timestamp": moment, "message": line[:LONGEST_LINE] or " "} for line in lines]
        self._client.put_log_events(logGroupName=self._group, logStreamName=self._stream, logEvents=events)

    def _make(self) -> None:
        if self._made:
            return
        exists = self._client.exceptions.ResourceAlreadyExistsException
        for create, names in (
            (self._client.create_log_group, {"logGroupName": self._group}),
            (self._client.create_log_stream, {"logGroupName": self._group, "logStreamName": self._stream}),
        ):
            try:
                create(**names)
            except exists:
                continue
        self._made = True
