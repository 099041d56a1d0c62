"""Uploads whose events were lost, found from two listings; and the keys of the list of runs that tell of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.aws.buckets import Entry
from chalicelib.runs.listing import Listed, fit_dataset, read_entry, write_entry
from chalicelib.runs.lost_uploads import find_lost_uploads
from tests.chalicelib.requests.test_jobs import make_run

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def entry(key: str, etag: str = "z1", ago: timedelta = timedelta()) -> Entry:
    return Entry(f"datasets/{key}", f'"{etag}"', 1, NOW - ago)


def listed(status: str, *, name: str = "dogs", ago: float = 0.0, zip_etag: str = "z1", recipe: str = "") -> Listed:
    created_at = NOW - timedelta(hours=ago)
    return Listed("r", fit_dataset(name), 0, status, None, created_at, "p", zip_etag, recipe)


HOUR = timedelta(hours=1)
LOST: list[tuple[str, list[Entry], list[Listed], list[str]]] = [
    ("nothing", [], [], []),
    ("an upload without a run", [entry("dogs.zip")], [], ["dogs"]),
    ("an upload in capitals", [entry("dogs.ZIP")], [], ["dogs"]),
    (
        "capitals beside a zip with its run",
        [entry("dogs.ZIP", "z2"), entry("dogs.zip", ago=HOUR)],
        [listed("tuning")],
        [],
    ),
    ("an upload with its run", [entry("dogs.zip", ago=HOUR)], [listed("tuning")], []),
    ("its run's clock is a little behind", [entry("dogs.zip")], [listed("tuning", ago=0.01)], []),
    ("the same bytes uploaded again", [entry("dogs.zip")], [listed("deployed", ago=1)], ["dogs"]),
    ("another version", [entry("dogs.zip", "z2", HOUR)], [listed("tuning")], ["dogs"]),
    ("another dataset's run", [entry("dogs.zip")], [listed("tuning", name="cats")], ["dogs"]),
    ("an upload of last month", [entry("dogs.zip", ago=720 * HOUR)], [], []),
    ("a run listed before etags were", [entry("dogs.zip", ago=HOUR)], [listed("tuning", zip_etag="")], []),
    ("a key that is no dataset", [entry("a/b.zip"), entry("dogs.txt")], [], []),
    ("a recipe without a zip", [entry("dogs.json")], [], []),
    ("the recipe it has", [entry("dogs.zip"), entry("dogs.json", "r1")], [listed("failed", recipe="r1")], []),
    ("a new recipe", [entry("dogs.zip"), entry("dogs.json", "r2")], [listed("failed", recipe="r1")], ["dogs"]),
    ("its first recipe", [entry("dogs.zip"), entry("dogs.json", "r2")], [listed("rejected")], ["dogs"]),
    ("a recipe in mid-run", [entry("dogs.zip"), entry("dogs.json", "r2")], [listed("training", recipe="r1")], []),
    ("a recipe after success", [entry("dogs.zip"), entry("dogs.json", "r2")], [listed("deployed", recipe="r1")], []),
    (
        "the last attempt counts",
        [entry("dogs.zip", ago=3 * HOUR), entry("dogs.json", "r2")],
        [listed("failed", recipe="r1", ago=1), listed("failed", recipe="r2")],
        [],
    ),
]


@pytest.mark.parametrize(("uploads", "runs", "lost"), [case[1:] for case in LOST], ids=[case[0] for case in LOST])
def test_lost_uploads_are_found_from_two_listings(uploads: list[Entry], runs: list[Listed], lost: list[str]) -> None:
    """Only what has something to do is looked at."""
    assert find_lost_uploads(uploads, runs, NOW) == lost


@pytest.mark.parametrize("name", ["dogs", "a.b c+d", "犬" * 66, "x" * 200, "100%"])
@pytest.mark.parametrize("reason", [None, "It / broke: 100 %", "x" * 2000, "-"])
def test_a_key_of_the_list_says_what_it_was_written_with(name: str, reason: str | None) -> None:
    """It fits S3's 1024 bytes; a long reason is cut."""
    run = replace(make_run(name), etag='"9f86d081884c7d65-12"', recipe_etag='"0cc175b9c0f1b6a8"')
    key = write_entry(run, "failed", reason)
    assert len(key.encode()) <= 1024
    found = read_entry(key)
    assert (found.run_id, found.status, found.zip_etag) == (run.run_id, "failed", "9f86d081884c7d65-12")
    assert found.as_dict()["dataset"] == name
    assert found.recipe_etag == "0cc175b9c0f1b6a8"
    assert (reason or "").startswith((found.reason or "").removesuffix("…"))
    assert found.created_at == datetime.fromisoformat(run.created_at)


def test_an_old_key_of_the_list_is_read() -> None:
    """Keys from before the etags were written have no place for them."""
    found = read_entry("index/8204694399992/whippet-dev-dogs-78eb9996/dogs/9-failed/why")
    assert (found.status, found.rank, found.reason, found.zip_etag) == ("failed", 9, "why", "")
    assert read_entry("index/8204694399992/whippet-dev-dogs-78eb9996/dogs/2-tuning").reason is None
