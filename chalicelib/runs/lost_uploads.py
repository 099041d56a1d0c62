"""Find the uploads whose events were lost, from two listings alone. Pure.

What every upload began stands in the list of runs, with the etags of its zip and its recipe. So the sweep looks at a
dataset only if there is something to do, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from chalicelib.aws.buckets import Entry
from chalicelib.runs.identity import is_zip_of, parse_dataset_key
from chalicelib.runs.listing import APPROVABLE, Listed, fit_dataset, strip_etag

LOOKS_BACK = timedelta(days=7)  # the next sweep, minutes later, finds an upload whose event was lost
OF_OLD_RUNS = timedelta(minutes=15)  # a recipe for runs that are older than the list goes back is looked at for so long
CLOCKS = timedelta(minutes=1)  # between S3's clock and ours, at the most
TRIED_AGAIN_BY_RECIPE = ("failed", "rejected", *APPROVABLE)


def find_lost_uploads(uploads: Iterable[Entry], runs: Sequence[Listed], now: datetime) -> list[str]:
    """List the datasets whose zip has no run, or whose failed run lacks a recipe that was uploaded since.

    `uploads` is everything below datasets/, and `runs` what was created since LOOKS_BACK began.
    """
    zips, recipes = _sort_out(uploads)
    by_dataset: dict[str, list[Listed]] = {}
    for run in runs:
        by_dataset.setdefault(run.dataset, []).append(run)

    def is_lost(name: str, upload: Entry) -> bool:
        own, recipe = by_dataset.get(fit_dataset(name), []), recipes.get(name)
        oldest = now - LOOKS_BACK
        if upload.modified >= oldest and _has_no_run(upload, own):
            return True
        return bool(recipe and recipe.modified >= oldest and _is_recipe_lost(recipe, upload, own, now))

    return sorted(name for name, upload in zips.items() if is_lost(name, upload))


def _sort_out(uploads: Iterable[Entry]) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """Return each dataset's zip and recipe. `NAME.zip` comes before the newest of `NAME.ZIP` and the like."""
    zips: dict[str, Entry] = {}
    recipes: dict[str, Entry] = {}
    for entry in sorted(uploads, key=lambda entry: (entry.key.endswith(".zip"), entry.modified)):
        if name := parse_dataset_key(entry.key):
            (zips if is_zip_of(entry.key, name) else recipes)[name] = entry
    return zips, recipes


def _has_no_run(upload: Entry, runs: Sequence[Listed]) -> bool:
    """Return whether no run was begun of a zip since it was uploaded."""
    etag = strip_etag(upload.etag)
    return not any(run.zip_etag in (etag, "") and run.created_at + CLOCKS >= upload.modified for run in runs)


def _is_recipe_lost(recipe: Entry, upload: Entry, runs: Sequence[Listed], now: datetime) -> bool:
    """Return whether the last attempt at the dataset has failed and does not have this recipe."""
    attempts = [run for run in runs if run.zip_etag in (strip_etag(upload.etag), "")]
    if not attempts:
        return recipe.modified >= now - OF_OLD_RUNS
    last = max(attempts, key=lambda run: run.created_at)
    if last.status not in TRIED_AGAIN_BY_RECIPE:
        return False
    if not last.zip_etag:
        return recipe.modified > last.created_at
    return last.recipe_etag != strip_etag(recipe.etag)
