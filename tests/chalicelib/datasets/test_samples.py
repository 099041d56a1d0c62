"""Broken images: a few are a warning, a tenth of all or most of a class is a problem, whichever are sampled."""

from __future__ import annotations

import io
import random
import struct
from functools import cache

import pytest

from chalicelib.datasets.preflight import DatasetReport, inspect_dataset
from tests.support.datasets.kinds import even, fill, picture
from tests.support.layouts import pack

CUT = picture("jpg", 7)[:-150]


def inspect(files: dict[str, bytes]) -> DatasetReport:
    return inspect_dataset(io.BytesIO(pack(files)))


@cache
def breed_classes(classes: int, images: int) -> dict[str, bytes]:
    """Return a dataset of many classes. Nothing is changed in it: the same files serve every test."""
    drawn, comment = picture("jpg"), b"\xff\xfe\0\6"  # a comment of four bytes makes a file of its own
    return {
        f"train/{c:03d}.breed/{i:03d}.jpg": drawn[:2] + comment + struct.pack(">2H", c, i) + drawn[2:]
        for c in range(classes)
        for i in range(images)
    }


def break_some(files: dict[str, bytes], broken: int, seed: int) -> dict[str, bytes]:
    """Return the dataset with some images cut short, anywhere."""
    chosen = random.Random(seed).sample(sorted(files), broken)
    return files | {name: files[name][:-150] for name in chosen}


@pytest.mark.parametrize(("images", "broken"), [(60, 7), (10, 13), (8, 1)])
def test_a_few_broken_images_never_refuse_a_dataset(images: int, broken: int) -> None:
    """133 classes with one per cent or less of broken images pass, whichever images those are."""
    reports = [inspect(break_some(breed_classes(133, images), broken, seed)) for seed in range(20)]
    assert [report.problems for report in reports] == [[]] * 20


@pytest.mark.parametrize(("broken", "is_refused"), [(3, False), (6, False), (7, True), (12, True)])
def test_a_tenth_of_all_may_be_broken(broken: int, is_refused: bool) -> None:
    """The threshold is the training program's: of sixty images six may be broken and seven may not, once sampled."""
    files = even([f"{label}" for label in "abcdef"])
    names = [f"{label}/{index:03d}.png" for index in (0, 3) for label in "abcdef"][:broken]
    report = inspect(files | dict.fromkeys(names, CUT))
    assert (not report.ok) is is_refused, [*report.problems, *report.warnings]
    found = report.problems if is_refused else report.warnings
    assert "damaged_image" in {each.code for each in found}


@pytest.mark.parametrize(("broken", "is_refused"), [(2, False), (5, False), (9, True), (12, True)])
def test_a_class_of_which_most_is_broken_is_refused(broken: int, is_refused: bool) -> None:
    """Where a sampled image is broken, nine more of its class decide; the message names the class."""
    files = even([f"{index:02d}" for index in range(40)], 12)
    report = inspect(files | {f"07/{index:03d}.png": CUT for index in range(broken)})
    assert (not report.ok) is is_refused
    if is_refused:
        assert "Most of the class '07' is broken" in report.problems[0].message


@pytest.mark.parametrize(("empty", "is_refused"), [(1, False), (2, False), (3, True), (20, True)])
def test_files_of_no_bytes_count_like_any_broken_image(empty: int, is_refused: bool) -> None:
    """Of 24 images two may be empty; all of them are counted, not only those that are sampled."""
    files = even(["cat", "dog"], 12)
    report = inspect(files | dict.fromkeys(sorted(files)[:empty], b""))
    assert (not report.ok) is is_refused
    found = report.problems if is_refused else report.warnings
    (told,) = (each for each in found if each.code == "empty_image")
    assert told.count == empty


def test_empty_and_damaged_images_add_up() -> None:
    """Two empty and two damaged ones of 24 are more than a tenth together."""
    files = even(["cat", "dog"], 12)
    report = inspect(files | {"cat/000.png": b"", "dog/000.png": b"", "cat/004.png": CUT, "dog/004.png": CUT})
    assert {problem.code for problem in report.problems} == {"empty_image", "damaged_image"}


@pytest.mark.parametrize(
    ("copies", "says"),
    [
        ({"valid/cat/000.png": "train/cat/001.png"}, "1 of 4 validation images are in train too"),
        ({"test/cat/000.png": "train/cat/001.png"}, "1 of 4 test images are in train too"),
        ({"test/cat/000.png": "valid/cat/001.png"}, "1 of 4 test images are in valid too"),
    ],
)
def test_the_same_image_in_two_splits_is_told(copies: dict[str, str], says: str) -> None:
    """Each pair of splits, with the count and the names."""
    counts = {f"{split}/{c}": n for split, n in (("train", 10), ("valid", 2), ("test", 2)) for c in ("cat", "dog")}
    files = fill(counts)
    report = inspect(files | {to: files[origin] for to, origin in copies.items()})
    assert report.ok
    (told,) = (each.message for each in report.warnings if each.code == "leak_between_splits")
    assert says in told
    assert next(iter(copies)) in told


def test_the_same_image_under_two_labels_is_told() -> None:
    """With the count and both names; equal images of one class and one split are nobody's business."""
    files = even(["cat", "dog"], 12)
    report = inspect(files | {"dog/000.png": files["cat/003.png"], "cat/001.png": files["cat/002.png"]})
    assert report.ok
    (told,) = (each for each in report.warnings if each.code == "contradicting_labels")
    assert told.count == 1
    assert "cat/003.png = dog/000.png" in told.message
