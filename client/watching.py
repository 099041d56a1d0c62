"""Follow a run until it ends: look again every few seconds, and show what has changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rich.console import Console
from rich.live import Live

from client.api import Api, ApiError
from client.live import ENDED, Snapshot, list_changes, render

SECONDS = 2.0
APPEARS_SECONDS = 120.0
TRIES_WITHOUT_ANSWER = 20
PATIENCE_SECONDS = 6 * 3600.0  # without any change: a run that waits for a quota may change next month only


def follow(
    api: Api, run: str, console: Console, *, seconds: float = SECONDS, patience: float = PATIENCE_SECONDS
) -> dict[str, Any]:
    """Show a run until it ends: live in a terminal, else a line for each change. Return the API's last answer.

    An API that does not answer for a moment is asked again. Raises ApiError, also where nothing changes for `patience`
    seconds.
    """
    began = changed = time.monotonic()
    before: Snapshot | None = None
    with Live(console=console, auto_refresh=False) if console.is_terminal else NoLive() as live:
        while True:
            now = ask_again(partial(take_snapshot, api, run, time.monotonic() - began, before), seconds)
            changes = list(list_changes(before, now))
            if console.is_terminal:
                live.update(render(now), refresh=True)
            elif changes:
                console.print(*changes, sep="\n", markup=False, soft_wrap=True)
            if now.status in ENDED:
                return dict(now.run)
            changed = time.monotonic() if changes else changed
            if time.monotonic() - changed > patience:
                raise ApiError(0, "NothingChanges", f"{run} is {now.status}; nothing has changed for {patience:.0f} s.")
            before = now
            time.sleep(seconds)


class NoLive:
    """A stand-in for the live view where the output is not a terminal."""

    def __enter__(self) -> NoLive:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, _renderable: object, *, refresh: bool = False) -> None: ...


def ask_again(ask: Callable[[], Snapshot], seconds: float) -> Snapshot:
    """Ask, and go on asking while the API does not answer. Raises ApiError after some tries, and where it refuses."""
    for _ in range(TRIES_WITHOUT_ANSWER):
        try:
            return ask()
        except ApiError as error:
            if 0 < error.status < 500 and error.status != 429:
                raise
        time.sleep(seconds)
    return ask()


def take_snapshot(api: Api, run: str, elapsed: float, before: Snapshot | None) -> Snapshot:
    """Read a run and the epochs of its jobs. Those of a run that has ended are read only if they never were."""
    described = api.describe_run(run)
    has_jobs = described.get("trials") or described.get("training")
    if not has_jobs or (described["status"] in ENDED and before is None):
        return Snapshot(described, dict(before.epochs) if before else {}, elapsed)
    epochs: dict[str, list[Mapping[str, Any]]] = {each["name"]: each["epochs"] for each in api.list_curves(run)["jobs"]}
    return Snapshot(described, epochs, elapsed)


def find_run(
    api: Api,
    dataset: str,
    known: set[str],
    sleep: Callable[[float], None],
    *,
    within: float = APPEARS_SECONDS,
    every: float = SECONDS,
) -> str:
    """Return the run that an upload of this dataset began. Raises ApiError where none begins within so many seconds."""
    for _ in range(round(within / every)):
        for run in api.list_runs(50):
            if run["dataset"] == dataset and run["run_id"] not in known:
                return str(run["run_id"])
        sleep(every)
    raise ApiError(0, "NoRun", f"No run of {dataset!r} has begun yet. 'whippet runs' lists the runs.")
