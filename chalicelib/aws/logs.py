"""Wrap CloudWatch Logs: the last lines that a job has written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chalicelib import errors
from chalicelib.aws.clients import translated

JOBS = "/aws/sagemaker/TrainingJobs"
MOST_LINES = 10_000  # of one answer, which also ends at 1 MB


class Logs:
    """The logs of SageMaker's jobs."""

    def __init__(self, get_client: Callable[[], Any]) -> None:
        self._get_client = get_client

    def read_tail(self, job: str, lines: int) -> list[str]:
        """Return the last lines of a job's log, the oldest first; nothing where there is none yet, or no longer."""
        client = self._get_client()
        try:
            with translated(f"Reading the log of {job}"):
                answer = client.describe_log_streams(logGroupName=JOBS, logStreamNamePrefix=f"{job}/")
                streams = sorted(each["logStreamName"] for each in answer["logStreams"])
                if not streams:
                    return []
                events = client.get_log_events(
                    logGroupName=JOBS, logStreamName=streams[-1], limit=min(lines, MOST_LINES), startFromHead=False
                )
        except errors.ServiceNotFound:
            return []
        return [str(event["message"]) for event in events["events"]]
