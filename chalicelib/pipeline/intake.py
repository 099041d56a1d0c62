"""Begin and stop runs: uploads, recipes, retries, stops; and the sweep, for lost events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from chalicelib import errors
from chalicelib.aws.buckets import Entry
from chalicelib.pipeline.advance import advance
from chalicelib.recipes.resolving import parse_recipe, resolve_recipe
from chalicelib.runs.identity import DATASETS, Run, make_endpoint_name, make_run_id, parse_dataset_key
from chalicelib.services import Services

TRIED_AGAIN_BY_RECIPE = ("failed", "rejected", "declined")
SWEEP_LOOKS_BACK = timedelta(days=7)  # the next sweep, minutes later, finds an upload whose event was lost
STALE_MARKER = timedelta(hours=1)


def look_at_dataset(dataset: str, services: Services, *, only_new: bool = False) -> str | None:
    """Begin the run that an upload asks for, or look at it again. Returns the run's id, or None if there is none.

    The current version gets its first run. If its last attempt failed and the recipe has changed since, it gets the
    next one. With `only_new`, a run that exists is left alone, because the sweep looks at active runs separately.
    """
    upload = find_upload(dataset, services)
    if upload is None:
        return None
    attempts = list(services.runs.find_attempts(services.settings, dataset, _name_version(upload)))
    result = services.runs.read_file(attempts[-1].run_id, "result.json") if attempts else None
    if not attempts or (result and _is_recipe_new(attempts[-1], result, services)):
        run = begin_run(dataset, upload, len(attempts) + 1, services)
    elif result or only_new:
        return None
    else:
        run = attempts[-1]
    advance(run.run_id, services)
    return run.run_id


def find_upload(dataset: str, services: Services) -> Entry | None:
    """Return the dataset's zip. If there is no `NAME.zip`, the newest of `NAME.ZIP` and the like is taken."""
    upload = services.bucket.describe(f"{DATASETS}{dataset}.zip")
    if upload is not None:
        return upload
    entries = services.bucket.list_entries(f"{DATASETS}{dataset}.")
    other = [each.key for each in sorted(entries, key=lambda each: each.modified) if is_zip_of(each.key, dataset)]
    return services.bucket.describe(other[-1]) if other else None


def is_zip_of(key: str, dataset: str) -> bool:
    """Return whether a key is that of a dataset's zip, in small or capital letters."""
    return parse_dataset_key(key) == dataset and not key.endswith(".json")


def _name_version(upload: Entry) -> str:
    return upload.version or upload.etag


def _is_recipe_new(run: Run, result: dict[str, Any], services: Services) -> bool:
    """Return whether the attempt failed and another recipe has been uploaded since."""
    if result["status"] not in TRIED_AGAIN_BY_RECIPE:
        return False
    recipe = services.bucket.describe(f"{DATASETS}{run.dataset}.json")
    return recipe is not None and recipe.etag != run.recipe_etag


def begin_run(dataset: str, upload: Entry, attempt: int, services: Services, source: Entry | None = None) -> Run:
    """Write run.json for an attempt at an upload, with the current recipe. An existing run.json stands.

    The dataset is copied from `source` if there is one, otherwise from the upload.
    """
    settings, origin = services.settings, source or upload
    run = Run(
        run_id=make_run_id(settings, dataset, _name_version(upload), attempt),
        dataset=dataset,
        bucket=settings.bucket,
        key=upload.key,
        version=upload.version,
        etag=upload.etag,
        size=upload.size,
        attempt=attempt,
        created_at=services.clock.now().isoformat(timespec="milliseconds"),
        endpoint=make_endpoint_name(settings, dataset),
        code_uri=settings.code_uri,
        source={"key": origin.key, "version": origin.version, "etag": origin.etag},
    )
    services.runs.create(pin_recipe(run, services))
    return run


def pin_recipe(run: Run, services: Services) -> Run:
    """Return the run with the recipe beside its dataset, every default filled in, or with that recipe's error."""
    stored, in_vpc = services.bucket.read(f"{DATASETS}{run.dataset}.json"), services.settings.in_vpc
    if stored is None:
        return replace(run, recipe=resolve_recipe(None, in_vpc=in_vpc).as_dict())
    try:
        return replace(run, recipe=parse_recipe(stored.body, in_vpc=in_vpc).as_dict(), recipe_etag=stored.etag)
    except errors.InvalidRecipe as error:
        return replace(run, recipe_error=error.message, recipe_etag=stored.etag)


def retry_run(run_id: str, services: Services) -> str:
    """Begin the next attempt on the same input. Returns its id. Raises Conflict if the run cannot be retried.

    Two retries at once begin one attempt.
    """
    run = services.runs.get(run_id)
    *_, last = services.runs.find_attempts(services.settings, run.dataset, run.version or run.etag)
    result = services.runs.read_file(last.run_id, "result.json")
    if result is None:
        raise errors.Conflict(f"The run {last.run_id} is on its way with this input. Stop it first, or wait for it.")
    if result["status"] == "deployed":
        raise errors.Conflict(
            f"The run {last.run_id} of this input is deployed. Upload the dataset again to train it again."
        )
    upload = Entry(run.key, run.etag, run.size, services.clock.now(), run.version)
    following = begin_run(run.dataset, upload, last.attempt + 1, services, source=_find_input(last, services))
    advance(following.run_id, services)
    return following.run_id


def _find_input(run: Run, services: Services) -> Entry | None:
    """Return what the next attempt copies: the last attempt's input, because the upload may have changed."""
    return services.bucket.describe(f"{run.folder}input/dataset.zip")


def stop_run(run_id: str, by: str, services: Services) -> str:
    """Write stop.json, then stop what is running. Returns the status. Raises Conflict if it is too late."""
    services.runs.get(run_id)
    files = services.runs.list_files(run_id)
    if "stop.json" not in files and "result.json" in files:
        raise errors.Conflict(f"The run {run_id} has ended. DELETE /models/NAME takes down what it deployed.")
    if "stop.json" not in files and "deployment.json" in files:
        raise errors.Conflict(f"The run {run_id} is being deployed. DELETE /models/NAME takes it down afterwards.")
    document: dict[str, Any] = {"format": 1, "by": by, "at": services.clock.now()}
    services.runs.write_file(run_id, "stop.json", document)
    return advance(run_id, services)


def advance_by_endpoint(endpoint: str, services: Services) -> None:
    """Look again at every active run that waits for this endpoint, the oldest first."""
    found = [services.runs.find(run_id) for run_id in services.runs.list_active()]
    waiting = [run for run in found if run and run.endpoint == endpoint]
    for run in sorted(waiting, key=lambda run: run.order):
        advance(run.run_id, services)


def sweep(services: Services) -> list[str]:
    """Look at every active run and every recent upload. Returns the failures: one failure does not stop the others."""
    failures: list[str] = []
    for run_id in services.runs.list_active():
        _try(partial(_sweep_run, run_id, services), f"run {run_id}", failures, services)
    for dataset in sorted(_list_recent_datasets(services)):
        _try(partial(look_at_dataset, dataset, services, only_new=True), f"dataset {dataset}", failures, services)
    return failures


def _try(look: Callable[[], object], what: str, failures: list[str], services: Services) -> None:
    try:
        look()
    except errors.WhippetError as error:
        services.log.exception("the sweep could not look", extra={"at": what})
        failures.append(f"{what}: {error.message}")


def _sweep_run(run_id: str, services: Services) -> None:
    """Advance an active run. A look that was killed may leave a marker without run.json; an old one is removed."""
    try:
        advance(run_id, services)
    except errors.RunNotFound:
        marker = services.bucket.describe(f"active/{run_id}")
        if marker and services.clock.now() - marker.modified > STALE_MARKER:
            services.runs.close(run_id)


def _list_recent_datasets(services: Services) -> set[str]:
    """List the datasets whose zip or recipe was uploaded recently."""
    oldest = services.clock.now() - SWEEP_LOOKS_BACK
    entries = services.bucket.list_entries(DATASETS)
    names = {parse_dataset_key(entry.key) for entry in entries if entry.modified >= oldest}
    return {name for name in names if name}


def sign_dataset_upload(dataset: str, services: Services) -> dict[str, Any]:
    """Return a URL to PUT the dataset's zip to, and how many seconds it is valid. Raises InvalidName."""
    key = f"{DATASETS}{check_name(dataset)}.zip"
    seconds = services.settings.upload_seconds
    return {
        "method": "PUT",
        "url": services.bucket.sign_upload(key, seconds),
        "key": key,
        "expires_in": seconds,
    }


def check_name(dataset: str) -> str:
    """Return a dataset's name if it can be served. Raises InvalidName."""
    if not 1 <= len(dataset.encode()) <= 200 or "/" in dataset or any(sign < " " for sign in dataset):
        raise errors.InvalidName(
            f"The name {dataset[:50]!r} cannot be served: give 1 to 200 bytes, without '/' and control characters."
        )
    return dataset
