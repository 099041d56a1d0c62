"""Remove a dataset with everything made from it: its versions, its recipe, its runs, its model.

The order lets a second call finish what one call had to leave or could not finish. First the uploads go, so that no new
run begins. Then every run is stopped, and then the model is taken down. A run's folder goes only when no look at the
run can still be in flight, and its `run.json`, by which the run is found, goes last. The ledger keeps what the runs
have cost. SageMaker keeps the records of ended jobs, which cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from chalicelib import errors
from chalicelib.aws.buckets import DELETE_LIMIT
from chalicelib.aws.sagemaker import Kind
from chalicelib.models.catalog import take_down
from chalicelib.pipeline.advance import advance
from chalicelib.pipeline.intake import check_name, stop_run
from chalicelib.runs.identity import DATASETS, Run, make_run_id, parse_dataset_key
from chalicelib.services import Services

SECONDS = 18.0  # a call leaves the rest to the next one after this long: API Gateway allows 29


class Unfinished(dict[str, Any]):
    """An answer about work that is not finished: 202."""


def delete_dataset(name: str, services: Services) -> dict[str, Any]:
    """Remove a dataset. Returns what was removed and what is left because something has to end first: call again.

    Raises DatasetNotFound if nothing of the dataset exists.
    """
    runs = list(find_runs(check_name(name), services))
    found = {key for key, _ in services.bucket.list_versions(f"{DATASETS}{name}.") if parse_dataset_key(key) == name}
    removed = sum(_delete_exactly(key, services) for key in sorted(found))
    if not (runs or removed or next(services.bucket.list_versions(f"models/{name}/"), None)):
        raise errors.DatasetNotFound(f"There is no dataset {name!r}: no upload, no recipe, no run and no model of it.")
    left = [reason for run in runs if (reason := _end_run(run, services))]
    models, obstacle = _take_down(name, services)
    left = [*left, obstacle] if obstacle else left or _delete_files(name, runs, services)
    told = {"name": name, "runs": [run.run_id for run in runs], "models": models}
    if left:
        return Unfinished(told, status="deleting", left=left)
    return told | {"status": "deleted", "left": []}


def find_runs(name: str, services: Services) -> Iterator[Run]:
    """Find every run of a dataset, whatever its version and attempt."""
    beginning = make_run_id(services.settings, name, "", 0)[:-8]  # the names of other datasets may begin the same way
    for folder in services.bucket.list_names("runs/"):
        run = services.runs.find(folder.rstrip("/")) if folder.startswith(beginning) else None
        if run and run.dataset == name:
            yield run


def _end_run(run: Run, services: Services) -> str | None:
    """End a run. Returns what has to be waited for, or None if only files are left of the run."""
    if services.bucket.describe(f"active/{run.run_id}") is None:
        return None
    try:
        if services.runs.read_file(run.run_id, "result.json"):
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
        kept = f"{run.folder}run.json"
        entries = services.runs.find_entries(run)
        for prefix in (entries, run.folder):
            versions = (each for each in services.bucket.list_versions(prefix) if each[0] != kept)
            if not _delete_until(deadline, versions, services):
                return [f"Files of the run {run.run_id} are left; there was no time for all of them."]
        _delete_exactly(f"active/{run.run_id}", services)
        _delete_exactly(kept, services)
        _delete_until(deadline, services.bucket.list_versions(entries), services)  # written meanwhile by a look
    _delete_until(deadline, services.bucket.list_versions(f"models/{name}/"), services)
    return []


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
