"""Names, the run folder, the list of runs, and claims."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import InvalidName, InvalidSettings, RunNotFound
from chalicelib.runs.claims import CLAIM_SECONDS, release_claim, take_claim
from chalicelib.runs.identity import (
    can_be_uploaded,
    check_name,
    find_name_problem,
    make_endpoint_name,
    make_run_id,
    parse_dataset_key,
)
from chalicelib.runs.listing import Facts, read_entry, write_entry
from chalicelib.settings import read_settings
from tests.chalicelib.requests.test_jobs import make_run
from tests.fakes.world import SETTINGS, World

ENVIRONMENT = {
    "BUCKET": "b",
    "EXECUTION_ROLE_ARN": "arn",
    "TOKENS_SECRET_ID": "s",
    "TRAINING_IMAGE_CPU": "t",
    "TRAINING_IMAGE_GPU": "u",
    "INFERENCE_IMAGE_CPU": "i",
    "INFERENCE_IMAGE_GPU": "j",
    "CODE_URI": "s3://b/code.tar.gz",
}
NAME = re.compile(r"[a-z0-9](-*[a-z0-9])*")


@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=100),
    st.from_regex(r"[a-zA-Z0-9]{1,30}"),
    st.integers(1, 99),
)
def test_names_are_what_sagemaker_takes(dataset: str, version: str, attempt: int) -> None:
    """Whatever a dataset is called, names hold letters, digits and inner hyphens, and are not too long."""
    run_id, endpoint = make_run_id(SETTINGS, dataset, version, attempt), make_endpoint_name(SETTINGS, dataset)
    assert NAME.fullmatch(run_id)
    assert len(run_id) <= 32
    assert NAME.fullmatch(endpoint)
    assert len(endpoint) <= 63


def test_the_same_upload_is_the_same_run() -> None:
    """Bucket, key, version and attempt make a run; bucket and key alone make the endpoint."""
    same = make_run_id(SETTINGS, "dogs", "v1", 1)
    assert same == make_run_id(SETTINGS, "dogs", "v1", 1)
    others = [
        make_run_id(SETTINGS, "Dogs", "v1", 1),
        make_run_id(SETTINGS, "dogs", "v2", 1),
        make_run_id(SETTINGS, "dogs", "v1", 2),
        make_run_id(replace(SETTINGS, bucket="other"), "dogs", "v1", 1),
        make_run_id(replace(SETTINGS, stage="prod"), "dogs", "v1", 1),
    ]
    assert len({same, *others}) == 6
    assert make_endpoint_name(SETTINGS, "dogs") != make_endpoint_name(SETTINGS, "dog s")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("datasets/dogs.zip", "dogs"),
        ("datasets/dogs.json", "dogs"),
        ("datasets/dogs.ZIP", "dogs"),
        ("datasets/dogs.JSON", None),
        ("datasets/a.b c+d.zip", "a.b c+d"),
        ("datasets/.zip", None),
        ("datasets/a/b.zip", None),
        ("datasets/dogs.ZIP.txt", None),
        ("runs/datasets/dogs.zip", None),
    ],
)
def test_a_dataset_is_named_by_its_key(key: str, name: str | None) -> None:
    """Only a zip or a recipe directly below datasets/ names a dataset."""
    assert parse_dataset_key(key) == name


def test_runs_are_listed_newest_first_a_page_at_a_time(world: World) -> None:
    """The list shows the last status written, with reasons and names that no key could hold unquoted."""
    runs = world.services().runs
    for number in range(5):
        run = replace(
            make_run(f"a/b {number}%"), run_id=f"r{number}", created_at=f"2026-11-22T00:00:0{number}.500+00:00"
        )
        runs.index(run, "checking", None)
        runs.index(run, "failed", "It / broke: 100 %")
    first, following = runs.list_all(2)
    assert [run["run_id"] for run in first] == ["r4", "r3"]
    assert (first[0]["dataset"], first[0]["status"], first[0]["reason"]) == ("a/b 4%", "failed", "It / broke: 100 %")
    assert first[0]["created_at"].startswith("2026-11-22T00:00:04.5")
    rest, end = runs.list_all(9, following or "")
    assert [run["run_id"] for run in rest] == ["r2", "r1", "r0"]
    assert end is None


@given(st.text(st.characters(codec="utf-8"), max_size=2000))
def test_any_reason_fits_into_a_key(reason: str) -> None:
    """S3's keys have 1024 bytes: a long reason is cut in the list, and complete in result.json."""
    world = World()
    world.services().runs.index(make_run(), "failed", reason)
    [key] = world.list_keys("index/")
    assert len(key.encode()) <= 1024
    [run] = world.services().runs.list_all(9)[0]
    told = run["reason"] or ""
    assert told == reason or (told.endswith("…") and reason.startswith(told[:-1]))


def test_an_ended_run_is_listed_with_its_numbers(world: World) -> None:
    """Its key carries them, so that the list needs no other call. A key from before that counts less."""
    runs, facts = world.services().runs, Facts(0.9876543, 350, 10, 742, 0.0612)
    runs.index(make_run(), "deployed", None)
    runs.index(make_run(), "deployed", None, facts)
    [run] = runs.list_all(9)[0]
    assert (run["accuracy"], run["images"], run["classes"]) == (0.987654, 350, 10)
    assert (run["seconds"], run["spent_usd"]) == (742, 0.0612)


@pytest.mark.parametrize("facts", [Facts(), Facts(seconds=3), Facts(accuracy=0.0), Facts(1.0, 1, 1, 1, 12345.6789)])
def test_unknown_numbers_stay_unknown(facts: Facts) -> None:
    """A key that lacks some is read all the same."""
    listed = read_entry(write_entry(make_run(), "failed", "It broke.", facts))
    assert listed is not None
    assert (listed.facts, listed.status, listed.reason) == (facts, "failed", "It broke.")


def test_a_run_that_is_not_there(world: World) -> None:
    """The error names it."""
    with pytest.raises(RunNotFound, match="'x'"):
        world.services().runs.get("x")


def test_a_claim_is_of_one_holder(world: World) -> None:
    """It can be taken again once released or expired; an expired claim cannot be released."""
    bucket, clock = world.services().bucket, world.clock
    first = take_claim(bucket, "lease", "a", clock.now())
    assert first
    assert take_claim(bucket, "lease", "b", clock.now()) is None
    release_claim(bucket, first, clock.now())
    second = take_claim(bucket, "lease", "b", clock.now())
    assert second
    clock.sleep(CLAIM_SECONDS + 1)
    third = take_claim(bucket, "lease", "c", clock.now())
    assert third
    release_claim(bucket, second, clock.now())
    assert take_claim(bucket, "lease", "d", clock.now()) is None


def test_a_claim_outlives_every_function() -> None:
    """Otherwise a slow function could act under a lease that another holds by now."""
    config = json.loads((Path(__file__).parents[3] / ".chalice/config.json").read_text())
    assert all(each["lambda_timeout"] < CLAIM_SECONDS for each in config["lambda_functions"].values())


def test_settings_are_read_with_their_types() -> None:
    """Numbers are parsed, and an unset variable has its default."""
    settings = read_settings({**ENVIRONMENT, "DATASET_MAX_IMAGES": "10", "STAGE": "local"})
    assert (settings.dataset_max_images, settings.prefix) == (10, "whippet-local-")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"BUCKET": ""}, "BUCKET is not set"),
        ({"CODE_URI": " "}, "CODE_URI is not set"),
        ({"VOLUME_GB": "ten"}, "VOLUME_GB is 'ten'"),
        ({"STAGE": "Dev"}, "STAGE is 'Dev'"),
        ({"APP_NAME": "a" * 18}, "may have 20"),
    ],
)
def test_settings_that_cannot_be_used_are_named(change: dict[str, str], named: str) -> None:
    """One error names every variable that is wrong."""
    with pytest.raises(InvalidSettings, match=named):
        read_settings({**ENVIRONMENT, **change})


BAD_NAMES = ["", ".", "..", "a/b", "a\nb", "a\x00", "\x7f", "\x85", "x" * 201, "犬" * 67, "\ud800"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_cannot_be_served(name: str) -> None:
    """One rule refuses it, and says how a name has to be."""
    with pytest.raises(InvalidName, match="1 to 200 bytes"):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "x" * 200, "犬" * 66, "a b+c.d%", "...", " ", "50%25"])
def test_a_name_that_can_be_served(name: str) -> None:
    """Whatever S3 and a path can hold."""
    assert find_name_problem(name) is None
    assert can_be_uploaded(name)


def test_what_s3_cannot_hold_cannot_be_uploaded() -> None:
    """Of all others a run may be found, although it cannot be served."""
    names = ["x" * 201, "a\x01b", ".", "x" * 1011, "x" * 1012, "a/b", "", "\ud800"]
    assert [can_be_uploaded(name) for name in names] == [True] * 4 + [False] * 4
