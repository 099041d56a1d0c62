"""Tests of comparing what ships with the live model, which an earlier run left behind."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from job.settings import Job
from PIL import Image

from tests.training.comparing.compared import (
    draw_files,
    pack,
    read,
    shuffle_labels,
    train,
    with_channels,
)
from tests.training.tiny import encode, make_zip

MakeJob = Callable[[Mapping[str, bytes]], Job]
OLDER = ("image_hashes", "image_keys", "temperature", "mean", "std", "interpolation", "hyperparameters", "shipped")


def compare(job: Job, live: Job, *, change: Callable[[Any], Any] = lambda _: None, dataset: bool = True) -> Any:
    """Train a new model beside a live one. Return comparison.json."""
    channels = {"live_model": pack(live, change)} | ({"live_dataset": live.places.dataset} if dataset else {})
    train(with_channels(job, **channels), live_run="run-live")
    return read(job, "comparison")


def by_name(comparison: Any) -> dict[str, Any]:
    return {test["name"]: test for test in comparison["live"]["tests"]}


def make_older(manifest: dict[str, Any]) -> None:
    """Remove what manifests did not always hold."""
    for name in OLDER:
        manifest.pop(name, None)


def test_a_training_on_shuffled_labels_is_shown_to_be_worse(good: Job, new_job: MakeJob) -> None:
    """On common images, its own and the live model's, nearly all that differs speaks for the live model."""
    comparison = compare(new_job(shuffle_labels(draw_files())), good)
    live, tests = comparison["live"], by_name(comparison)
    assert (live["run"], live["problem"]) == ("run-live", None)
    assert live["classes"] == {"shared": ["blue", "green", "red"], "lost": [], "new": []}
    assert set(tests) == {"new", "live"}
    for test in tests.values():
        assert test["images"] == 60 == sum(test[name] for name in ("both", "only_new", "only_live", "neither"))
        assert test["only_live"] > 20 > 5 > test["only_new"]
    assert live["labels_changed"]["compared"] == 120
    assert 30 < live["labels_changed"]["changed"] <= 60
    assert comparison["floor"]["lower"] < 0.5


def test_the_same_model_again_is_equal(good: Job, new_job: MakeJob) -> None:
    """Nothing speaks for either, no label has changed, and what the live model answers is what it answered then."""
    comparison = compare(new_job(draw_files()), good)
    tests, before = by_name(comparison), read(good, "evaluation")["test"]
    for test in tests.values():
        assert (test["only_new"], test["only_live"], test["images"]) == (0, 0, 60)
        assert test["both"] == round(60 * before["accuracy"])
    assert comparison["live"]["labels_changed"] == {"changed": 0, "compared": 120}
    assert comparison["floor"]["lower"] > comparison["floor"]["chance"] == comparison["floor"]["most_frequent"]


def copy_nearly(data: bytes) -> bytes:
    """Return the same image in another file: larger, and with JPEG's losses."""
    with Image.open(io.BytesIO(data)) as image:
        return encode(image.resize((80, 80), Image.Resampling.BICUBIC), "JPEG", quality=92)


def test_images_that_either_model_has_seen_are_left_out(good: Job, new_job: MakeJob) -> None:
    """By their hash, or where they look the same; images that the live model was validated on too."""
    old, new = draw_files(), draw_files(first=1000)
    new |= {"test/red/seen-1.png": old["train/red/000.png"], "test/red/seen-2.png": old["valid/red/003.png"]}
    new |= {"test/red/near-1.jpg": copy_nearly(old["train/red/004.png"])}
    new |= {"train/green/taken.png": old["test/green/000.png"], "valid/green/taken.png": old["test/green/001.png"]}
    new |= {"train/blue/near.jpg": copy_nearly(old["test/blue/003.png"])}
    tests = by_name(compare(new_job(new), good))
    assert tests["new"]["left_out"] == {"seen": 2, "near_duplicates": 1, "other_classes": 0}
    assert tests["live"]["left_out"] == {"seen": 2, "near_duplicates": 1, "other_classes": 0}
    assert (tests["new"]["images"], tests["live"]["images"]) == (60, 57)


def test_of_other_class_sets_the_shared_ones_are_compared(good: Job, new_job: MakeJob) -> None:
    """Lost and new classes are named, and their images are not counted."""
    comparison = compare(new_job(draw_files(("red", "green", "grey"), first=1000)), good)
    tests = by_name(comparison)
    assert comparison["live"]["classes"] == {"shared": ["green", "red"], "lost": ["blue"], "new": ["grey"]}
    for test in tests.values():
        assert (test["images"], test["left_out"]["other_classes"]) == (40, 20)
        assert test["both"] > 30


def test_a_model_of_no_shared_class_is_told(good: Job, new_job: MakeJob) -> None:
    """There is nothing to compare, and that is no failure."""
    renamed = {name.replace("/", "/new-", 1): data for name, data in draw_files().items()}
    comparison = compare(new_job(renamed), good)
    assert comparison["live"]["classes"]["shared"] == []
    assert [test["images"] for test in comparison["live"]["tests"]] == [0, 0]
    assert comparison["live"]["labels_changed"] == {"changed": 120, "compared": 120}


def test_an_older_manifest_is_completed_from_its_dataset(good: Job, new_job: MakeJob) -> None:
    """Where it lists the training images alone, the dataset tells which ones the model was validated on."""
    new = draw_files(first=1000) | {"test/red/seen.png": draw_files()["valid/red/003.png"]}
    comparison = compare(new_job(new), good, change=make_older)
    tests = by_name(comparison)
    assert comparison["live"]["problem"] is None
    assert (tests["new"]["images"], tests["new"]["left_out"]["seen"]) == (60, 1)
    assert tests["live"]["images"] == 60


def test_an_older_manifest_alone_is_told(good: Job, new_job: MakeJob) -> None:
    """Without its dataset only images that it was trained on can be left out."""
    comparison = compare(new_job(draw_files()), good, change=make_older, dataset=False)
    assert "lists only its training images" in comparison["live"]["problem"]
    assert set(by_name(comparison)) == {"new"}


def test_a_live_dataset_that_is_gone_or_broken_is_told(good: Job, new_job: MakeJob, tmp_path: Path) -> None:
    """The new test images are compared all the same; those that the manifest lists are left out without it."""
    new = draw_files(first=1000) | {"test/red/seen.png": draw_files()["train/red/003.png"]}
    job = new_job(new)
    for content, told in ((None, "is gone"), (b"half a zip", "cannot be read")):
        channels = {"live_model": pack(good)}
        if content is not None:
            folder = tmp_path / "old"
            folder.mkdir()
            (folder / "dataset.zip").write_bytes(content)
            channels["live_dataset"] = folder
        train(with_channels(job, **channels), live_run="run-live")
        live = read(job, "comparison")["live"]
        assert told in live["problem"]
        assert [(test["images"], test["left_out"]["seen"]) for test in live["tests"]] == [(60, 1)]


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "is gone"), (b"torn", "cannot be read")],
)
def test_a_live_model_that_is_gone_or_torn_is_told(
    new_job: MakeJob, tmp_path: Path, content: bytes | None, told: str
) -> None:
    """The new model is in place, and comparison.json says why it was compared with nothing."""
    channels = {}
    if content is not None:
        channels["live_model"] = tmp_path / "live"
        channels["live_model"].mkdir()
        (channels["live_model"] / "model.tar.gz").write_bytes(content)
    job = new_job(draw_files())
    train(with_channels(job, **channels), live_run="run-live")
    live = read(job, "comparison")["live"]
    assert told in live["problem"]
    assert (live["run"], live["tests"]) == ("run-live", [])
    assert (job.places.model / "model.pth").exists()


def test_without_a_live_model_there_is_nothing_to_tell(good: Job) -> None:
    """The first training of a dataset compares its own candidates alone."""
    comparison = read(good, "comparison")
    assert (comparison["format"], comparison["live"], comparison["problems"]) == (1, None, [])
    assert {each["candidate"] for each in comparison["candidates"]} == {"final", "head", "blend"}


def test_an_image_that_cannot_be_decoded_any_more_is_left_out(good: Job, new_job: MakeJob) -> None:
    """A test image of the live run that this program cannot read counts for neither."""
    strange = b"no image"
    import hashlib

    def list_it(manifest: dict[str, Any]) -> None:
        manifest["image_hashes"]["test"].append(hashlib.blake2b(strange, digest_size=8).hexdigest())
        manifest["image_keys"]["test"].append("00")

    folder = good.places.output / "with-a-strange-one"
    folder.mkdir()
    (folder / "dataset.zip").write_bytes(make_zip(draw_files() | {"test/red/strange.png": strange}))
    job = with_channels(new_job(draw_files()), live_model=pack(good, list_it), live_dataset=folder)
    train(job, live_run="run-live")
    test = by_name(read(job, "comparison"))["live"]
    assert (test["images"], test["left_out"]["unreadable"]) == (60, 1)
