"""The reader of zip directories: for every archive it says what zipfile says."""

from __future__ import annotations

import io
import random
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.datasets.directory import Entry, read_entries, read_head
from chalicelib.errors import BrokenZip
from tests.support.hostile.zips import ZIPS
from tests.support.layouts import LAYOUTS, list_pictures, pack

STATED = ("orig_filename", "create_system", "flag_bits", "compress_type", "CRC", "compress_size")
STATED += ("file_size", "external_attr", "header_offset")
HEAD = 65_536
BUILDERS = {name: case.build for name, case in ZIPS.items()} | {name: case.build for name, case in LAYOUTS.items()}
PACKED = [pack(list_pictures(), method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]


def describe(entry: Entry | zipfile.ZipInfo) -> tuple[object, ...]:
    return tuple(getattr(entry, name) for name in STATED)


def read_with_zipfile(body: bytes) -> zipfile.ZipFile | None:
    try:
        return zipfile.ZipFile(io.BytesIO(body))
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return None


def read_with_ours(body: bytes, theirs: zipfile.ZipFile) -> list[Entry]:
    """The entries between zipfile's start of the directory and the end record."""
    end = body.rindex(b"PK\x05\x06")
    if body[end - 20 : end - 16] == b"PK\x06\x07":
        end -= 76
    stated = int.from_bytes(body[end + 16 : end + 20], "little") if body[end:].startswith(b"PK\x05") else None
    shift = theirs.start_dir - stated if stated not in (None, 0xFFFF_FFFF) else 0
    return list(read_entries(body[theirs.start_dir : end], shift))


@pytest.mark.parametrize("name", BUILDERS)
def test_reads_what_zipfile_reads(name: str) -> None:
    """Of every layout and every hostile zip that zipfile opens, each entry is stated alike."""
    body = BUILDERS[name]()
    theirs = read_with_zipfile(body)
    if theirs is not None and body.count(b"PK\x05\x06") == 1:
        assert [describe(entry) for entry in read_with_ours(body, theirs)] == [
            describe(entry) for entry in theirs.filelist
        ]


def test_most_of_those_archives_are_compared() -> None:
    """The comparison above is of more than a handful of archives."""
    assert sum(read_with_zipfile(build()) is not None for build in BUILDERS.values()) > 25


@settings(max_examples=200, deadline=None)
@given(
    body=st.sampled_from(PACKED), changes=st.lists(st.tuples(st.integers(1, 4_000), st.integers(0, 255)), max_size=4)
)
def test_refuses_what_zipfile_refuses(body: bytes, changes: list[tuple[int, int]]) -> None:
    """Whichever bytes of a directory are changed, both readers give the same entries, or both give none."""
    changed = bytearray(body)
    end = body.rindex(b"PK\x05\x06")
    start = int.from_bytes(body[end + 16 : end + 20], "little")
    for place, value in changes:
        changed[start + place % (end - start)] = value
    theirs = read_with_zipfile(bytes(changed))
    try:
        ours = list(read_entries(bytes(changed[start:end]), 0))
    except BrokenZip:
        assert theirs is None
    else:
        assert theirs is not None
        assert [describe(entry) for entry in ours] == [describe(entry) for entry in theirs.filelist]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("size", [0, 1, HEAD - 1, HEAD, HEAD + 1, 300_000])
def test_reads_the_head_of_an_entry(method: int, size: int) -> None:
    """An entry's first 64 KB, or all of it where it is shorter, as they were packed."""
    noise = random.Random(size).randbytes(size)
    body = pack({"a.txt": b"before", "picture.jpg": noise}, method)
    (_, entry) = zipfile.ZipFile(io.BytesIO(body)).filelist
    assert read_head(io.BytesIO(body), as_entry(entry), HEAD) == noise[:HEAD]


@pytest.mark.parametrize(
    ("offset", "value", "says"),
    [(0, b"X", "no file begins"), (30, b"q", "differently"), (42, b"\xff\xff", "checksum"), (14, b"\0\0", None)],
)
def test_a_damaged_entry_is_told(offset: int, value: bytes, says: str | None) -> None:
    """A header that is none, another name, other bytes; numbers that the directory states too are read there."""
    body = bytearray(pack({"picture.jpg": b"0123456789" * 20}))
    (entry,) = zipfile.ZipFile(io.BytesIO(body)).filelist
    body[offset : offset + len(value)] = value
    if says is None:
        assert read_head(io.BytesIO(body), as_entry(entry), HEAD) == b"0123456789" * 20
    else:
        with pytest.raises(BrokenZip, match=says):
            read_head(io.BytesIO(body), as_entry(entry), HEAD)


def as_entry(entry: zipfile.ZipInfo) -> Entry:
    return Entry(entry.filename, *describe(entry))  # type: ignore[arg-type]
