"""Pre-flight: every broken zip is told apart and explained, every good one is read, and nothing ever raises."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import pytest

from chalicelib.datasets.preflight import DatasetLimits, DatasetReport, inspect_dataset
from tests.support.hostile.zips import ZIPS
from tests.support.layouts import LAYOUTS, count_all, list_flat_pictures, list_pictures, pack, picture


def inspect(body: bytes, limits: DatasetLimits | None = None) -> DatasetReport:
    return inspect_dataset(io.BytesIO(body), limits)


def codes(report: DatasetReport) -> set[str]:
    return {problem.code for problem in report.problems}


def warning_codes(report: DatasetReport) -> set[str]:
    return {warning.code for warning in report.warnings}


class CountingFile(io.BytesIO):
    """A seekable file that knows how much of it was read."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.bytes_read = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.bytes_read += len(data)
        return data


@pytest.mark.parametrize("name", ZIPS)
def test_hostile_zip_is_refused(name: str, tmp_path: Path) -> None:
    """A broken or hostile zip is refused with its own code, in words that say what and what to do."""
    case = ZIPS[name]
    path = tmp_path / "dataset.zip"
    path.write_bytes(case.build())
    with path.open("rb") as archive:
        report = inspect_dataset(archive, case.limits)
    assert not report.ok
    assert case.code in codes(report), report.problems
    message = next(problem.message for problem in report.problems if problem.code == case.code)
    for words in case.says:
        assert words in message
    assert message.isprintable()
    assert not re.search(r"\bb['\"]", message), "bytes are told in words, not as Python writes them"
    assert len(message) < 700
    json.dumps(report.as_dict()).encode()


@pytest.mark.parametrize("name", LAYOUTS)
def test_good_zip_is_read(name: str) -> None:
    """A good zip of any served layout has no problem, and its root, classes and counts are found."""
    layout = LAYOUTS[name]
    report = inspect(layout.build())
    assert report.problems == []
    assert report.root == layout.root
    assert report.splits == layout.counts
    assert report.classes == sorted({label for split in layout.counts.values() for label in split})
    assert report.images == sum(sum(split.values()) for split in layout.counts.values())


def test_report_as_document() -> None:
    """dataset.json holds what its readers rely on."""
    document = inspect(pack(list_pictures(root="dogImages/"))).as_dict()
    assert document == {
        "format": 1,
        "ok": True,
        "problems": [],
        "warnings": [],
        "classes": ["cat", "dog"],
        "splits": count_all(),
        "images": 34,
        "bytes": sum(map(len, list_pictures().values())),
        "root": "dogImages/",
        "form": "folders",
    }


def test_all_problems_are_told_at_once() -> None:
    """A zip with five mistakes gets five answers, not one after another."""
    files: dict[str, bytes] = {
        **list_pictures(classes=("cat",)),
        "train/owl/": b"",
        "train/cat/photo.heic": b"x",
        "../evil.png": picture(),
        "more.zip": b"PK",
    }
    found = codes(inspect(pack(files)))
    assert found == {"name_escapes", "nested_archive", "unsupported_format", "too_few_classes", "empty_class"}


def test_long_lists_are_summarised() -> None:
    """Of a thousand bad names a message has three and the number of the others."""
    files = {**list_pictures(), **{f"train/cat/{index:04d}.heic": b"x" for index in range(1_000)}}
    (problem,) = inspect(pack(files)).problems
    assert problem.count == 1_000
    assert problem.path == "train/cat/0000.heic"
    assert "and 997 more" in problem.message


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({**list_flat_pictures(["cat"], count=121), **list_flat_pictures(["dog"], count=12)}, "imbalance"),
        ({**list_flat_pictures(["cat"], count=36), **list_flat_pictures(["dog"], count=12)}, "uneven_classes"),
        (list_pictures({"train": 9}), "small_class"),
        (list_pictures({"train": 12}), "split_cut_from_train"),
        ({**list_pictures({"train": 12}), **list_pictures({"test": 3}, ["cat"])}, "class_missing_from_split"),
        ({**list_pictures(), "README.md": b"Pets", "train/loose.png": picture()}, "ignored_files"),
        (list_pictures(classes=("a", "A")), "similar_classes"),
    ],
)
def test_oddities_are_warnings(files: dict[str, bytes], code: str) -> None:
    """What may be meant is told and goes on."""
    report = inspect(pack(files))
    assert report.ok, report.problems
    assert code in warning_codes(report)


def test_ten_to_one_is_not_yet_an_imbalance() -> None:
    """The warning begins above ten to one. From three to one on it is told what the run does about it."""
    files = {**list_flat_pictures(["cat"], count=120), **list_flat_pictures(["dog"], count=12)}
    assert "imbalance" not in warning_codes(inspect(pack(files)))
    assert "uneven_classes" in warning_codes(inspect(pack(files)))
    few = {**list_flat_pictures(["cat"], count=35), **list_flat_pictures(["dog"], count=12)}
    assert not {"imbalance", "uneven_classes"} & warning_codes(inspect(pack(few)))


def test_bytes_around_the_zip_are_warnings() -> None:
    """A self-extracting zip and one with bytes behind its end are read, and it is said."""
    body = pack(list_pictures())
    assert warning_codes(inspect(b"#!/bin/sh\nexit\n" + body)) == {"prefixed_data"}
    assert warning_codes(inspect(body + b"signature")) == {"trailing_data"}
    assert inspect(b"MZ" + body + b"\n").splits == count_all()


def commented(comment: bytes) -> bytes:
    buffer = io.BytesIO(pack(list_pictures()))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = comment
    return buffer.getvalue()


def test_comment_is_no_reason_for_alarm() -> None:
    """An archive's comment, as long as it may be, changes nothing."""
    assert inspect(commented(b"x" * 65_535)).as_dict() == inspect(pack(list_pictures())).as_dict()


def test_comment_with_the_sign_of_an_end_is_refused() -> None:
    """Such a comment makes some readers, zipfile among them, look for the directory in the wrong place."""
    assert codes(inspect(commented(b"made by PK\x05\x06 and friends" + b"x" * 3_000))) == {"ambiguous_directory"}


def test_names_without_their_encoding_are_a_warning() -> None:
    """Names that are not flagged as UTF-8 are read as code page 437, which is seldom what was meant."""
    body = pack(list_pictures(classes=("xxe", "dog"))).replace(b"xxe", "Zoë".encode()[:2] + b"\x89")
    report = inspect(body)
    assert report.ok
    assert "unknown_encoding" in warning_codes(report)


def test_only_a_part_is_read() -> None:
    """Of a large archive the directory is read and a few pictures of each class, not the pictures."""
    noise = picture("jpg") + bytes(100_000)
    body = pack({f"train/{label}/{index}.jpg": noise for label in ("cat", "dog") for index in range(60)})
    archive = CountingFile(body)
    assert inspect_dataset(archive).ok
    assert archive.bytes_read < 800_000 < len(body) / 10


def test_every_class_is_looked_into() -> None:
    """One class of a hundred whose files are no images is found, though only a few files of each are opened."""
    classes = [f"{index:03d}" for index in range(100)]
    files = list_flat_pictures(classes, count=12) | {f"100/{index}.png": b"404 not found" for index in range(12)}
    (problem,) = inspect(pack(files)).problems
    assert problem.code == "not_an_image_inside"
    assert problem.path is not None
    assert problem.path.startswith("100/")


def test_a_few_bad_pictures_are_a_warning() -> None:
    """One broken file among many is told, and does not stop a dataset: training leaves it out."""
    files = list_flat_pictures([f"{index:02d}" for index in range(10)], count=3)
    report = inspect(pack({**files, "03/001.png": picture()[:-20]}))
    assert report.ok, report.problems
    (warning,) = (each for each in report.warnings if each.code == "damaged_image")
    assert warning.message.startswith("1 of 30 images looked into")
    assert warning.path == "03/001.png"


def test_samples_are_bounded() -> None:
    """With many images no more are opened than the limit, but one of every class."""
    body = pack({f"{label}/{turn}.jpg": picture("jpg") + bytes(9_000) for label in range(40) for turn in range(3)})
    unbounded, bounded = CountingFile(body), CountingFile(body)
    inspect_dataset(unbounded)
    inspect_dataset(bounded, DatasetLimits(max_samples=5))
    assert 40 * 9_000 < bounded.bytes_read < unbounded.bytes_read / 2


def test_unreadable_storage_is_not_the_datasets_fault() -> None:
    """An error of the storage comes through: it must not reject a good dataset for ever."""

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("connection reset")

    with pytest.raises(OSError, match="connection reset"):
        inspect_dataset(Failing(pack(list_pictures())))
