"""Remove a dataset with everything made from it: its versions, its recipe, its runs, its model.

The order lets a second call finish what the first one left undone. First a tombstone is written, which tells looks in
flight. Then the uploads go, so that no new run begins. Then every run is stopped, and then the model is taken down. A
run's folder goes only when its jobs have ended, and `run.json`, by which a run is found, after its other files.
A look in flight may still write about a run whose folder is gone: once no such look can live, the sweep removes what it
has written, and the tombstone. The ledger keeps what the runs have cost. SageMaker keeps the records of ended
jobs, which cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from chalicelib import errors
from chalicelib.aws.buckets import DELETE_LIMIT
from chalicelib.aws.sagemaker import Kind
from chalicelib.models.catalog import take_down, take_down_runs
from chalicelib.pipeline.advance import advance
from chalicelib.pipeline.intake import find_upload, stop_run
from chalicelib.runs.claims import CLAIM_SECONDS
from chalicelib.runs.identity import DATASETS, Run, can_be_uploaded, check_name, make_run_id, parse_dataset_key
from chalicelib.runs.observation import APPROVAL, RESULT, SECOND_RESULT
from chalicelib.runs.tombstones import (
    TOMBSTONES,
    Tombstone,
    is_version_gone,
    name_tombstone,
    read_tombstone,
    write_tombstone,
)
from chalicelib.services import Services

SECONDS = 18.0  # a call leaves the rest to the next one after this long: API Gateway allows 29


class Unfinished(dict[str, Any]):
    """An answer about work that is not finished: 202."""


def delete_dataset(name: str, services: Services) -> dict[str, Any]:
    """Remove a dataset. Returns what was removed and what is left because something has to end first: call again.

    Raises DatasetNotFound if nothing of the dataset exists, and InvalidName if nothing can.
    """
    if not can_be_uploaded(name):
        check_name(name)
    key = name_tombstone(services.settings, name)
    before = read_tombstone(services.bucket, key)
    tombstone = before or Tombstone(key, name)
    if before is None:
        write_tombstone(services.bucket, tombstone)
    found = {key for key, _ in services.bucket.list_versions(f"{DATASETS}{name}.") if parse_dataset_key(key) == name}
    removed = sum(_delete_exactly(key, services) for key in sorted(found))
    runs = list(find_runs(name, services))
    has_served = _has_served(name, services)
    if not (runs or removed or has_served):
        if before is None:
            _delete_exactly(key, services)
        check_name(name)
        raise errors.DatasetNotFound(f"There is no dataset {name!r}: no upload, no recipe, no run and no model of it.")
    write_tombstone(services.bucket, _add(tombstone, runs, services))
    left = [reason for run in runs if (reason := _end_run(run, services))]
    models, obstacle = _take_down(name, services) if has_served else ([], None)
    left = [*left, obstacle] if obstacle else left or _delete_files(name, runs, services)
    told = {"name": name, "runs": [run.run_id for run in runs], "models": models}
    if left:
        return Unfinished(told, status="deleting", left=left)
    return told | {"status": "deleted", "left": []}


def find_runs(name: str, services: Services) -> Iterator[Run]:
    """Find every run of a dataset, whatever its version and attempt."""
    beginning = _begin_run_ids(name, services)
    for folder in services.bucket.list_names("runs/"):
        run = services.runs.find(folder.rstrip("/")) if folder.startswith(beginning) else None
        if run and run.dataset == name:
            yield run


def _begin_run_ids(name: str, services: Services) -> str:
    """Return what the ids of a dataset's runs begin with. Those of other datasets may begin the same way."""
    return make_run_id(services.settings, name, "", 0)[:-8]


def _add(tombstone: Tombstone, runs: Iterable[Run], services: Services) -> Tombstone:
    entries = dict(tombstone.entries)
    for run in runs:
        entries[run.run_id] = sorted({*entries.get(run.run_id, ()), services.runs.find_entries(run)})
    return replace(tombstone, entries=entries)


def list_due_removals(services: Services) -> list[str]:
    """List the tombstones that are so old that no look which began before a removal can still be in flight."""
    oldest = services.clock.now() - timedelta(seconds=CLAIM_SECONDS)
    return [entry.key for entry in services.bucket.list_entries(TOMBSTONES) if entry.modified < oldest]


def finish_removal(key: str, services: Services) -> bool:
    """Remove what looks in flight have written about removed runs, and the tombstone. Returns False if more is left.

    A run of the dataset whose version is still in the bucket belongs to a later upload, and stays. Until this call, a
    run that is removed by it could still be looked at, so the tombstone's time begins again before the run goes.
    """
    tombstone = read_tombstone(services.bucket, key)
    if tombstone is None:
        return True
    runs = list(find_runs(tombstone.dataset, services))
    ghosts = [run for run in runs if is_version_gone(run, services.bucket)]
    tombstone = _add(tombstone, ghosts, services)
    if [reason for run in ghosts if (reason := _end_run(run, services))]:
        return False
    stays = {run.run_id for run in runs} - {run.run_id for run in ghosts}
    removed = {run_id: entries for run_id, entries in tombstone.entries.items() if run_id not in stays}
    may_serve = bool(removed) and _has_served(tombstone.dataset, services)
    if may_serve and not take_down_runs(tombstone.dataset, removed, services):
        return False
    if ghosts:
        write_tombstone(services.bucket, tombstone)
    deadline = services.clock.now() + timedelta(seconds=SECONDS)
    for run_id, entries in removed.items():
        if not _delete_run(run_id, entries, deadline, services):
            return False
    _forget_markers(tombstone.dataset, services)
    if not stays and find_upload(tombstone.dataset, services) is None:
        _delete_until(deadline, services.bucket.list_versions(f"models/{tombstone.dataset}/"), services)
    if key not in list_due_removals(services):  # this call has found runs, or another one at the same time
        return False
    _delete_exactly(key, services)
    return True


def _has_served(name: str, services: Services) -> bool:
    """Return whether a run of a dataset was ever deployed: it had a lease then."""
    return next(services.bucket.list_versions(f"models/{name}/"), None) is not None


def _forget_markers(name: str, services: Services) -> None:
    """Remove the markers of a dataset that have no run: a look was killed before it wrote run.json."""
    beginning = _begin_run_ids(name, services)
    for run_id in services.runs.list_active():
        if run_id.startswith(beginning) and services.runs.find(run_id) is None:
            marker = services.runs.find_active_dataset(run_id)
            if marker and marker[0] == name and services.runs.forget(run_id):
                _delete_exactly(f"active/{run_id}", services)


def _end_run(run: Run, services: Services) -> str | None:
    """End a run. Returns what has to be waited for, or None if only files are left of the run."""
    if services.bucket.describe(f"active/{run.run_id}") is None:
        files = services.runs.list_files(run.run_id)
        if (SECOND_RESULT if APPROVAL in files else RESULT) in files or files <= {
            "run.json"
        }:  # it has ended, or it was withdrawn as it began
            return None
        services.runs.mark_active(run)
    try:
        if services.runs.read_result(run.run_id):
            status = advance(run.run_id, services)
        else:
            status = stop_run(run.run_id, "the deletion of its dataset", services)
    except errors.Conflict:
        return f"The run {run.run_id} is being deployed, and can be removed when that is over."
    if services.bucket.describe(f"active/{run.run_id}") is None:
        return None
    if status == "stopped":
        return f"The run {run.run_id} is stopped; its files go when no job of it can begin any more, in minutes."
    return f"The run {run.run_id} is {status}, and something of it is still to end."


def _take_down(name: str, services: Services) -> tuple[list[str], str | None]:
    """Take the model down. Returns what was deleted, and what stands in the way."""
    try:
        deleted = take_down(name, services)
    except errors.Conflict as error:
        return [], error.message
    endpoint = next((each for each in deleted if services.sagemaker.describe(Kind.ENDPOINT, each)), None)
    return deleted, f"The endpoint {endpoint} is being deleted." if endpoint else None


def _delete_files(name: str, runs: Iterable[Run], services: Services) -> list[str]:
    """Delete every file of the runs, and the model's lease. Returns what was left for lack of time."""
    deadline = services.clock.now() + timedelta(seconds=SECONDS)
    for run in runs:
        if not _delete_run(run.run_id, [services.runs.find_entries(run)], deadline, services):
            return [f"Files of the run {run.run_id} are left; there was no time for all of them."]
    _delete_until(deadline, services.bucket.list_versions(f"models/{name}/"), services)
    return []


def _delete_run(run_id: str, entries: Sequence[str], deadline: datetime, services: Services) -> bool:
    """Delete a run's entries in the list, its folder and its marker. Returns False if there was no time for all.

    Its end and the marks of what was sent go after run.json: a run that is left half removed has ended or is not there,
    and no look in flight finds it without marks and sends everything once more.
    """
    folder = f"runs/{run_id}/"
    kept = (f"{folder}run.json", f"{folder}{APPROVAL}", f"{folder}result", f"{folder}notices/")
    for prefix in (*entries, folder):
        versions = (each for each in services.bucket.list_versions(prefix) if not each[0].startswith(kept))
        if not _delete_until(deadline, versions, services):
            return False
    for key in (f"active/{run_id}", kept[0]):
        _delete_exactly(key, services)
    return all(_delete_until(deadline, services.bucket.list_versions(each), services) for each in (folder, *entries))


def _delete_until(deadline: datetime, versions: Iterator[tuple[str, str]], services: Services) -> bool:
    """Delete versions until the deadline. Returns whether all of them were deleted."""
    while batch := list(islice(versions, DELETE_LIMIT)):
        services.bucket.delete_versions(batch)
        if services.clock.now() > deadline:
            return False
    return True


def _delete_exactly(key: str, services: Services) -> int:
    """Delete every version of one object. Returns how many there were."""
    versions = [each for each in services.bucket.list_versions(key) if each[0] == key]
    for start in range(0, len(versions), DELETE_LIMIT):
        services.bucket.delete_versions(versions[start : start + DELETE_LIMIT])
    return len(versions)
