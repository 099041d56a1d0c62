"""Sweep: look at every active run and every upload that no run was begun of, in case an event was lost.

What a sweep costs grows with the active runs alone. Pre-flights come last, since one of them may take all the time that
the function has: then it takes only its own turn, and no other run's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from chalicelib import errors
from chalicelib.pipeline.advance import advance
from chalicelib.pipeline.intake import look_at_dataset
from chalicelib.pipeline.removal import finish_removal, list_due_removals
from chalicelib.runs.identity import DATASETS
from chalicelib.runs.lost_uploads import LOOKS_BACK, find_lost_uploads
from chalicelib.services import Services

STALE_MARKER = timedelta(hours=1)
PERIOD = timedelta(minutes=2)  # between two sweeps
QUICK_TIME = timedelta(seconds=200)  # of the function's 300, for looks that are quick
SLOW_TIME = timedelta(seconds=120)  # since the sweep began: no pre-flight is begun after that
CHECKING = "checking"


def sweep(services: Services) -> list[str]:
    """Look at every active run and every lost upload. Returns the failures: one failure does not stop the others."""
    began, failures = services.clock.now(), list[str]()
    attempt = partial(_try, failures=failures, services=services)
    slow = []
    for run_id in take_turns(services.runs.list_active(), began):
        if services.clock.now() - began > QUICK_TIME:
            break
        if attempt(partial(_look, run_id, services), f"run {run_id}") == CHECKING:
            slow.append(run_id)
    for key in attempt(partial(list_due_removals, services), "the removals") or ():
        attempt(partial(finish_removal, key, services), f"removal {key}")
    for dataset in attempt(partial(_list_lost, services), "the uploads") or ():
        look = partial(look_at_dataset, dataset, services, only_new=True, is_quick=True)
        if begun := attempt(look, f"dataset {dataset!r}"):
            slow.append(str(begun))
    for run_id in take_turns(slow, began):
        if services.clock.now() - began > SLOW_TIME:
            break
        attempt(partial(advance, run_id, services), f"run {run_id}")
    return failures


def take_turns(names: Sequence[str], now: datetime) -> list[str]:
    """Order names so that each is the first in turn, from one sweep to the next: none is always behind a slow one."""
    turn = int(now.timestamp() // PERIOD.total_seconds()) % max(len(names), 1)
    return [*names[turn:], *names[:turn]]


def _try(look: Callable[[], Any], what: str, failures: list[str], services: Services) -> Any:
    """Look, and return what the look returns. Whatever fails is one failure, and the sweep goes on."""
    try:
        return look()
    except Exception as error:
        services.log.exception("the sweep could not look", extra={"at": what})
        failures.append(f"{what}: {error.message if isinstance(error, errors.WhippetError) else repr(error)}")
    return None


def _look(run_id: str, services: Services) -> str | None:
    """Advance an active run, but for its pre-flight. An old marker that a killed look left without a run is removed."""
    try:
        return advance(run_id, services, is_quick=True)
    except errors.RunNotFound:
        marker = services.bucket.describe(f"active/{run_id}")
        if marker and services.clock.now() - marker.modified > STALE_MARKER:
            services.runs.forget(run_id)
    return None


def _list_lost(services: Services) -> list[str]:
    now = services.clock.now()
    runs = services.runs.list_since(now - LOOKS_BACK - PERIOD)
    return find_lost_uploads(services.bucket.list_entries(DATASETS), runs, now)
