"""Follow a run until it ends: look again every few seconds, and say what has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from client.api import Api, ApiError
from client.rendering import ENDED, show_share

SECONDS = 3.0
TRIES_WITHOUT_ANSWER = 20


def watch(api: Api, run: str, sleep: Callable[[float], None]) -> Iterator[dict[str, Any]]:
    """Yield the run each time that it has changed, the last time when it has ended. Raises ApiError.

    An API that does not answer for a moment is asked again.
    """
    seen, failures = None, 0
    while True:
        try:
            described, failures = api.describe_run(run), 0
        except ApiError as error:
            failures += 1
            if 0 < error.status < 500 or failures > TRIES_WITHOUT_ANSWER:
                raise
        else:
            if (now := summarise(described)) != seen:
                seen = now
                yield described
            if described["status"] in ENDED:
                return
        sleep(SECONDS)


def summarise(run: dict[str, Any]) -> str:
    """Say in a line where a run is: what a terminal that is no screen prints."""
    planned = (run.get("recipe") or {}).get("trials")
    done = [trial for trial in run["trials"] if trial["objective"] is not None]
    parts = [run["status"]]
    if run["status"] == "tuning" and run["trials"]:
        parts.append(f"trial {len(run['trials'])} of {planned or '?'}")
    if done:
        parts.append(f"best score {show_share(max(trial['objective'] for trial in done))}")
    if run["reason"]:
        parts.append(run["reason"])
    status, *details = parts
    return f"{status}: {', '.join(details)}" if details else status


def find_run(api: Api, dataset: str, known: set[str], sleep: Callable[[float], None], tries: int = 40) -> str:
    """Return the run that an upload of this dataset began. Raises ApiError where none has begun after two minutes."""
    for _ in range(tries):
        for run in api.list_runs(50):
            if run["dataset"] == dataset and run["run_id"] not in known:
                return str(run["run_id"])
        sleep(SECONDS)
    raise ApiError(0, "NoRun", f"No run of {dataset!r} has begun yet. 'whippet runs' lists the runs.")
