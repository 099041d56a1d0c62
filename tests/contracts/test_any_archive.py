"""Any bytes that are uploaded as a zip, whatever their names or damage, give a report that agrees with itself."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from chalicelib.datasets.preflight import DatasetReport, inspect_dataset
from tests.support.layouts import list_flat_pictures, list_pictures, pack, picture

PART = st.sampled_from(
    ["train", "valid", "test", "Training", "cat", "dog", "", ".", "..", ".git", "__MACOSX", "Ĳ", "a b"]
)
NAME = st.tuples(st.lists(PART, max_size=4), st.sampled_from(["1.png", "2.JPG", "x.txt", "y.zip", "", ".jpg"])).map(
    lambda name: "/".join([*name[0], name[1]])
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(NAME.filter(bool), st.sampled_from([b"", b"text", picture(), picture("jpg")]), max_size=25))
def test_any_names_give_a_report(files: dict[str, bytes]) -> None:
    """Whatever the names, there is a report whose numbers agree with one another."""
    check_consistency(inspect_archive(pack(files)))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 60))
@example(b"PK\x05\x06" + b"\xff" * 18, 0)
@example(b"PK\x06\x06" + b"\xff" * 52 + b"PK\x06\x07" + b"\0" * 16 + b"PK\x05\x06" + b"\xff" * 16 + b"\0\0", 0)
def test_any_bytes_give_a_report(noise: bytes, cut: int) -> None:
    """Noise, noise before a zip and noise in the place of its end are reported, never raised."""
    body = pack(list_flat_pictures(count=1))
    for hostile in (noise, noise + body, body[: len(body) - cut] + noise, body[cut:] + noise):
        check_consistency(inspect_archive(hostile))


DAMAGED = pack(list_flat_pictures(count=2), zipfile.ZIP_DEFLATED)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(DAMAGED) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_damage_gives_a_report(changes: list[tuple[int, int]]) -> None:
    """Bytes overwritten anywhere, sizes and offsets included, are reported, never raised."""
    body = bytearray(DAMAGED)
    for place, value in changes:
        body[place] = value
    check_consistency(inspect_archive(bytes(body)))


def test_every_truncation_gives_a_report() -> None:
    """A zip cut at any byte is refused."""
    for length in range(0, len(DAMAGED), 7):
        report = inspect_archive(DAMAGED[:length])
        assert not report.ok
        check_consistency(report)


def inspect_archive(body: bytes) -> DatasetReport:
    return inspect_dataset(io.BytesIO(body))


def check_consistency(report: DatasetReport) -> None:
    document: dict[str, Any] = json.loads(json.dumps(report.as_dict()))
    assert document["ok"] == (not document["problems"])
    assert document["images"] == sum(sum(split.values()) for split in document["splits"].values())
    assert document["classes"] == sorted({label for split in document["splits"].values() for label in split})
    assert all(problem["message"].isprintable() for problem in document["problems"] + document["warnings"])


def test_zip64_is_read() -> None:
    """A zip with more entries than the old format counts has a zip64 directory, and is read."""
    buffer = io.BytesIO(pack(list_pictures()))
    with zipfile.ZipFile(buffer, "a") as archive:
        for index in range(66_000):
            archive.filelist.append(_twin_of(archive.filelist[index % 12], f"train/cat/more_{index}.png"))
        archive._didModify = True
    report = inspect_archive(buffer.getvalue())
    assert b"PK\x06\x06" in buffer.getvalue()
    assert report.images == 66_034
    assert {each.code for each in report.problems} == {
        "overlapping_entries",
        "damaged_image",
    }  # for all of them share twelve bodies
    assert {each.code for each in report.warnings} == {"imbalance"}


def _twin_of(entry: zipfile.ZipInfo, name: str) -> zipfile.ZipInfo:
    twin = zipfile.ZipInfo(name)
    twin.header_offset, twin.CRC = entry.header_offset, entry.CRC
    twin.file_size = twin.compress_size = entry.file_size
    return twin
