"""Test that what functions print reaches a file and the log service, whose memory has an end."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from localcloud.functions import log
from localcloud.functions.log import FunctionLog
from tests.localcloud.common.full_disk import fill_disk
from tests.localcloud.hosting import aws, client


def read_lines(logs: Any, group: str) -> list[str]:
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
    return [event["message"] for page in pages for event in page["events"]]


def test_the_newest_lines_are_kept(tmp_path: Path) -> None:
    """The file has every line; the log service has two streams of each function at most."""
    with aws(tmp_path / "aws", []) as url:
        logs = client("logs", url)
        function_log = FunctionLog(tmp_path / "functions.log", logs)
        count = 3 * log.STREAM_LINES + 10
        streams = log.Streams(logs, "/aws/lambda/many")
        for start in range(0, count, 1000):
            streams.write([str(number) for number in range(start, min(start + 1000, count))], datetime.now(UTC))
        function_log("few", "one line")
        function_log.close()
        kept = read_lines(logs, "/aws/lambda/many")
        assert kept[-1] == str(count - 1)
        assert log.STREAM_LINES < len(kept) <= 2 * log.STREAM_LINES
        assert len(logs.describe_log_streams(logGroupName="/aws/lambda/many")["logStreams"]) == 2
    assert "few one line" in (tmp_path / "functions.log").read_text()


def test_a_full_disk_stops_no_function(tmp_path: Path) -> None:
    """A line that cannot be written is lost, and the next ones are not."""
    with aws(tmp_path / "aws", []) as url:
        function_log = FunctionLog(tmp_path / "functions.log", client("logs", url))
        with fill_disk():
            function_log("f", "lost")
        function_log("f", "kept")
        function_log.close()
    assert "f kept" in (tmp_path / "functions.log").read_text()
