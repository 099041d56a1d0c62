"""Removing a dataset with all that was made from it: its versions, its recipe, its runs, what serves.

It is done in an order in which a call that was cut off, or had to leave something, is finished by calling again: first
the uploads, so that no run begins anew; then every run is stopped; then the model is taken down; and a run's folder
goes only when no look at it can be under way any more, its `run.json` last, by which it is found. The ledger keeps what
the runs have cost, and SageMaker the records of jobs that have ended, which cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import batched
from typing import Any

from chalicelib import errors
from chalicelib.advance import advance
from chalicelib.buckets import DELETE_LIMIT
from chalicelib.claims import CLAIM_SECONDS
from chalicelib.intake import stop_run
from chalicelib.models import take_down
from chalicelib.runs import DATASETS, Run
from chalicelib.sagemaker import Kind
from chalicelib.services import Services

SECONDS = 18.0  # after which a call leaves the rest to the next one: the gateway gives it 29
RETRY_SECONDS = 30


class Unfinished(dict[str, Any]):
    """An answer that tells of work which goes on: 202."""


def delete_dataset(name: str, services: Services) -> dict[str, Any]:
    """Remove a dataset. Returns what was removed and, where something has to end first, what is left: call again.

    Raises DatasetNotFound where nothing of it is there.
    """
    runs = list(find_runs(name, services))
    uploads = [f"{DATASETS}{name}.zip", f"{DATASETS}{name}.json"]
    removed = sum(_delete_exactly(key, services) for key in uploads)
    left = [reason for run in runs if (reason := _end_run(run, services))]
    deleted, obstacle = _take_down(name, services)
    if not (runs or removed or deleted or obstacle or _is_known(name, services)):
        raise errors.DatasetNotFound(f"There is no dataset {name!r}: no upload, no recipe, no run and no model of it.")
    if not left and not obstacle:
        left = _delete_files(name, runs, services)
    left += [obstacle] if obstacle else []
    told = {"name": name, "runs": [run.run_id for run in runs], "models": deleted}
    if left:
        return Unfinished(told, status="deleting", left=left, retry_after=RETRY_SECONDS)
    return told | {"status": "deleted", "left": []}


def find_runs(name: str, services: Services) -> Iterator[Run]:
    """Every run of a dataset, whatever its version and attempt."""
    prefix = services.settings.prefix
    for folder in services.bucket.list_names("runs/"):
        run_id = folder.rstrip("/")
        run = services.runs.find(run_id) if run_id.startswith(prefix) else None
        if run and run.dataset == name:
            yield run


def _is_known(name: str, services: Services) -> bool:
    return next(services.bucket.list_versions(f"models/{name}/"), None) is not None


def _end_run(run: Run, services: Services) -> str | None:
    """Have a run end. Returns what is still to be waited for, or None where nothing is left of it but files."""
    if services.bucket.describe(f"active/{run.run_id}") is None:
        return None
    try:
        if services.runs.read_file(run.run_id, "result.json"):
            status = advance(run.run_id, services)
        else:
            status = stop_run(run.run_id, "the deletion of its dataset", services)
    except errors.Conflict:
        return f"The run {run.run_id} is being deployed; it is removed when that is over."
    if services.bucket.describe(f"active/{run.run_id}") is None:
        return None
    if status == "stopped":
        return f"The run {run.run_id} is stopped; its files go when no job of it can begin any more, in minutes."
    return f"The run {run.run_id} is {status}, and is being stopped."


def _take_down(name: str, services: Services) -> tuple[list[str], str | None]:
    """Take the model down. Returns what was deleted, and what is in the way."""
    try:
        deleted = take_down(name, services)
    except errors.Conflict as error:
        return [], error.message
    endpoint = next((each for each in deleted if services.sagemaker.describe(Kind.ENDPOINT, each)), None)
    return deleted, f"The endpoint {endpoint} is being deleted." if endpoint else None


def _delete_files(name: str, runs: Iterable[Run], services: Services) -> list[str]:
    """Delete every file of the runs, and the model's lease. Returns what there was no time for."""
    started = services.clock.now()
    for run in runs:
        last = f"{run.folder}run.json"
        for prefix in (f"{services.runs.find_index(run)}/", f"active/{run.run_id}", run.folder):
            for batch in batched(_list_under(prefix, last, services), DELETE_LIMIT, strict=False):
                services.bucket.delete_versions(batch)
                if (services.clock.now() - started).total_seconds() > SECONDS:
                    return [f"Files of the run {run.run_id} are left."]
        _delete_exactly(last, services)
    for batch in batched(services.bucket.list_versions(f"models/{name}/"), DELETE_LIMIT, strict=False):
        services.bucket.delete_versions(batch)
    return []


def _list_under(prefix: str, last: str, services: Services) -> Iterator[tuple[str, str]]:
    return (each for each in services.bucket.list_versions(prefix) if each[0] != last)


def _delete_exactly(key: str, services: Services) -> int:
    """Delete every version of one object. Returns how many there were."""
    versions = [each for each in services.bucket.list_versions(key) if each[0] == key]
    for batch in batched(versions, DELETE_LIMIT, strict=False):
        services.bucket.delete_versions(batch)
    return len(versions)
