"""Begin, stop and approve runs: uploads, recipes, retries, stops, approvals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chalicelib import errors
from chalicelib.aws.buckets import Entry
from chalicelib.pipeline.advance import advance, take_lease
from chalicelib.pipeline.observing import find_rival, is_there, observe, see_endpoint
from chalicelib.recipes.resolving import parse_recipe, resolve_recipe
from chalicelib.runs.claims import release_claim
from chalicelib.runs.identity import (
    DATASETS,
    Run,
    check_name,
    find_name_problem,
    is_zip_of,
    make_endpoint_name,
    make_run_id,
)
from chalicelib.runs.lost_uploads import TRIED_AGAIN_BY_RECIPE
from chalicelib.runs.observation import APPROVAL, RESULT, SECOND_RESULT, Observation, can_be_approved
from chalicelib.runs.tombstones import is_removed
from chalicelib.services import Services

GONE_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 15.0, 15.0)  # seconds: a deletion takes about a minute on AWS
RETRY_SECONDS = 15  # for whoever finds an endpoint in the middle of a deployment
MAX_RECIPE = 1_000_000  # bytes that are read of a recipe: one that has more is refused by its first ones


def look_at_dataset(dataset: str, services: Services, *, only_new: bool = False, is_quick: bool = False) -> str | None:
    """Begin the run that an upload asks for, or look at it again. Returns the run's id, or None if there is none.

    The current version gets its first run. If its last attempt failed and the recipe has changed since, it gets the
    next one. With `only_new`, a run that exists is left alone, because the sweep looks at active runs separately. With
    `is_quick`, a pre-flight is left to a later look.
    """
    upload = find_upload(dataset, services)
    if upload is None:
        return None
    attempts = list(services.runs.find_attempts(services.settings, dataset, _name_version(upload)))
    result = services.runs.read_result(attempts[-1].run_id) if attempts else None
    if not attempts or (result and _is_recipe_new(attempts[-1], result, services)):
        begun = begin_run(dataset, upload, len(attempts) + 1, services)
        if begun is None:
            return None
        run = begun
    elif result or only_new:
        return None
    else:
        run = attempts[-1]
    advance(run.run_id, services, is_quick=is_quick)
    return run.run_id


def find_upload(dataset: str, services: Services) -> Entry | None:
    """Return the dataset's zip. If there is no `NAME.zip`, the newest of `NAME.ZIP` and the like is taken."""
    upload = services.bucket.describe(f"{DATASETS}{dataset}.zip")
    if upload is not None:
        return upload
    entries = services.bucket.list_entries(f"{DATASETS}{dataset}.")
    other = [each.key for each in sorted(entries, key=lambda each: each.modified) if is_zip_of(each.key, dataset)]
    return services.bucket.describe(other[-1]) if other else None


def _name_version(upload: Entry) -> str:
    return upload.version or upload.etag


def _is_recipe_new(run: Run, result: dict[str, Any], services: Services) -> bool:
    """Return whether the attempt failed and another recipe has been uploaded since."""
    if result["status"] not in TRIED_AGAIN_BY_RECIPE or find_name_problem(run.dataset):
        return False
    recipe = services.bucket.describe(f"{DATASETS}{run.dataset}.json")
    return recipe is not None and recipe.etag != run.recipe_etag


def begin_run(dataset: str, upload: Entry, attempt: int, services: Services, source: Entry | None = None) -> Run | None:
    """Write run.json for an attempt at an upload, with the current recipe. An existing run.json stands.

    The dataset is copied from `source` if there is one, otherwise from the upload. Returns None if the dataset is being
    removed: the removal may have missed this run, so nothing is done for it, and the sweep removes it later.
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
    if is_removed(run, services.bucket, settings):
        services.bucket.delete(f"active/{run.run_id}")
        return None
    return run


def pin_recipe(run: Run, services: Services) -> Run:
    """Return the run with the recipe beside its dataset, every default filled in, or with that recipe's error."""
    key, in_vpc = f"{DATASETS}{run.dataset}.json", services.settings.in_vpc
    stored = None if find_name_problem(run.dataset) else services.bucket.read(key, most=MAX_RECIPE)
    if stored is None:
        return replace(run, recipe=resolve_recipe(None, in_vpc=in_vpc).as_dict())
    try:
        return replace(run, recipe=parse_recipe(stored.body, in_vpc=in_vpc).as_dict(), recipe_etag=stored.etag)
    except errors.InvalidRecipe as error:
        return replace(run, recipe_error=error.message, recipe_etag=stored.etag)


def write_recipe(dataset: str, body: bytes, services: Services) -> dict[str, Any]:
    """Put a recipe beside a dataset. Returns it with every default filled in. Raises InvalidName, InvalidRecipe."""
    name = check_name(dataset)
    recipe = parse_recipe(body, in_vpc=services.settings.in_vpc)
    services.bucket.write(f"{DATASETS}{name}.json", body)
    return recipe.as_dict()


def retry_run(run_id: str, services: Services, body: bytes = b"") -> str:
    """Begin the next attempt on the same input. Returns its id. Raises Conflict if the run cannot be retried.

    A body is the recipe of the attempts from now on: with one, a deployed run may be trained again too. Two retries at
    once begin one attempt.
    """
    run = services.runs.get(run_id)
    attempts = list(services.runs.find_attempts(services.settings, run.dataset, run.version or run.etag))
    if not attempts:
        raise errors.RunNotFound(f"The run {run_id} is being removed with its dataset.")
    last = attempts[-1]
    result = services.runs.read_result(last.run_id)
    if result is None:
        raise errors.Conflict(f"The run {last.run_id} is on its way with this input. Stop it first, or wait for it.")
    if result["status"] == "deployed" and not body.strip():
        raise errors.Conflict(
            f"The run {last.run_id} of this input is deployed. Give another recipe, or upload the dataset "
            "again, to train it again."
        )
    if body.strip():
        write_recipe(run.dataset, body, services)
    upload = Entry(run.key, run.etag, run.size, services.clock.now(), run.version)
    following = begin_run(run.dataset, upload, last.attempt + 1, services, source=_find_input(last, services))
    if following is None:
        raise errors.Conflict(f"The dataset {run.dataset!r} is being removed, and the run {last.run_id} with it.")
    advance(following.run_id, services)
    return following.run_id


def _find_input(run: Run, services: Services) -> Entry | None:
    """Return what the next attempt copies: the last attempt's input, because the upload may have changed."""
    return services.bucket.describe(f"{run.folder}input/dataset.zip")


def stop_run(run_id: str, by: str, services: Services) -> str:
    """Write stop.json, then stop what is running. Returns the status. Raises Conflict if it is too late."""
    services.runs.get(run_id)
    files = services.runs.list_files(run_id)
    if "stop.json" not in files and (SECOND_RESULT if APPROVAL in files else RESULT) in files:
        raise errors.Conflict(f"The run {run_id} has ended. DELETE /models/NAME takes down what it deployed.")
    if "stop.json" not in files and "deployment.json" in files:
        raise errors.Conflict(f"The run {run_id} is being deployed. DELETE /models/NAME takes it down afterwards.")
    document: dict[str, Any] = {"format": 1, "by": by, "at": services.clock.now()}
    services.runs.write_file(run_id, "stop.json", document)
    return advance(run_id, services)


def approve_run(run_id: str, by: str, services: Services) -> str:
    """Have the model of a run deployed that ended undecided or declined. Returns the run's status.

    The approval is written under the endpoint's lease, so that no look closes the run meanwhile; the next look deploys.
    Asking again changes nothing. Raises Conflict where the run ended in another way or a newer one is live.
    """
    run = services.runs.get(run_id)
    claim = take_lease(run, services)
    if claim is None:
        raise errors.Conflict(
            f"Another run of {run.dataset!r} is being deployed. Try again.", retry_after=RETRY_SECONDS
        )
    try:
        seen = observe(run, services)
        if not seen.is_approved:
            _check_approval(seen, services)
            services.runs.mark_active(run)
            document = {"format": 1, "by": by, "at": services.clock.now(), "after": seen.status}
            services.runs.write_file(run_id, APPROVAL, document)
            seen = observe(run, services)
    finally:
        release_claim(services.bucket, claim, services.clock.now())
    if seen.result and seen.status != "deployed":
        why = f"The run {run_id} was approved, and then ended {seen.status}: {seen.result['reason']}"
        raise errors.Conflict(f"{why} POST /runs/RUN_ID/retry begins the next attempt.")
    services.runs.index(run, seen.status, None, is_approved=True)
    return seen.status


def _check_approval(seen: Observation, services: Services) -> None:
    """Raise Conflict where a run's model may not be deployed, and say why."""
    run = seen.run
    if not can_be_approved(seen):
        what = f"ended {seen.status}" if seen.result else f"is {seen.status}"
        raise errors.Conflict(f"The run {run.run_id} {what}: only a run that ended undecided or declined is approved.")
    if seen.stop:
        raise errors.Conflict(f"The run {run.run_id} was stopped by {seen.stop.get('by')} as it ended. Retry it.")
    if is_removed(run, services.bucket, services.settings):
        raise errors.Conflict(f"The dataset {run.dataset!r} is being removed, and the run {run.run_id} with it.")
    if rival := find_rival(run, see_endpoint(run.endpoint, services), services):
        raise errors.Conflict(f"The run {run.run_id} is not the newest: the model of {rival} is live, and stays.")
    decision = services.runs.read_file(run.run_id, "decision.json") or {}
    if not is_there(decision.get("model_data"), services):
        raise errors.Conflict(f"The model of {run.run_id} is gone: {decision.get('model_data')}. Retry the run.")


def advance_by_endpoint(endpoint: str, services: Services) -> None:
    """Look again at every active run that waits for this endpoint, the oldest first.

    No event says that a deleted endpoint is gone, and until a run creates it again nothing answers. So this waits for
    that, where a run waits for it, and then looks once more. Raises the first failure, once every run was looked at.
    """
    if "deploying" in _advance_all(endpoint, services) and _is_gone_soon(endpoint, services):
        _advance_all(endpoint, services)


def _is_gone_soon(endpoint: str, services: Services) -> bool:
    """Wait for an endpoint that is being deleted. Returns whether it was, and is gone."""
    for pause in (*GONE_PAUSES, 0.0):
        seen = see_endpoint(endpoint, services)
        if seen is None or seen.status != "Deleting":
            return seen is None
        services.clock.sleep(pause)
    return False


def _advance_all(endpoint: str, services: Services) -> set[str]:
    """Advance the active runs of an endpoint. Returns the statuses that they have then."""
    found = [services.runs.find(run_id) for run_id in services.runs.list_active()]
    statuses, failures = set(), []
    for run in sorted((run for run in found if run and run.endpoint == endpoint), key=lambda run: run.order):
        try:
            statuses.add(advance(run.run_id, services))
        except errors.RunNotFound:
            services.log.info("a run was removed meanwhile", extra={"run_id": run.run_id})
        except errors.WhippetError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return statuses


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
