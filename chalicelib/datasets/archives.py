"""Find and read a zip's directory without trusting any number that the archive states.

Only the end of the archive is read, and the directory's size is checked before the directory is read. Source of the
format: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.14 to 4.3.16.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol, runtime_checkable

from chalicelib.datasets.directory import Entry, read_entries
from chalicelib.datasets.findings import Finding, quote_bytes
from chalicelib.errors import BrokenZip

END = b"PK\x05\x06"
END_SIZE = 22
END64 = b"PK\x06\x06"
LOCATOR64 = b"PK\x06\x07"
SIZE64 = 56 + 20  # the record and the locator that follows it
LONGEST_COMMENT = 65_535
BYTES_AN_ENTRY = 400  # at most, in the directory: 46 plus a name, an extra field and, rarely, a comment
OTHER_FORMATS = {
    b"\x1f\x8b": "a gzip file (a .tar.gz?)",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\xfd7zXZ": "an xz file",
    b"BZh": "a bzip2 file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"%PDF": "a PDF",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"<": "a web page or XML",
    b"{": "JSON",
}


@runtime_checkable
class Prefetching(Protocol):
    """A remote archive that can fetch many of its parts at once."""

    def prefetch(self, spans: Iterable[tuple[int, int]]) -> None:
        """Fetch the bytes of each (start, end) ahead of their use."""


@dataclass(frozen=True)
class End:
    """The end-of-directory record: its position and what it claims. All numbers are bytes except `disk` and `entries`.

    `directory_end` is where the directory must end: before this record, or before the zip64 record in front of it.
    """

    position: int
    directory_end: int
    disk: int
    entries: int
    directory_size: int
    directory_offset: int
    comment_size: int

    @property
    def directory_start(self) -> int:
        return self.directory_end - self.directory_size


@dataclass(frozen=True)
class Archive:
    """A zip whose directory was read: its file, its entries, and the byte at which the directory begins."""

    file: BinaryIO
    entries: list[Entry]
    directory_start: int


@dataclass(frozen=True)
class Opened:
    """An archive whose directory was read, or the problems that prevented it."""

    archive: Archive | None
    problems: list[Finding]
    warnings: list[Finding]


def open_archive(archive: BinaryIO, max_entries: int, encoding: str | None = None) -> Opened:
    """Read the directory unless it is missing, ambiguous or larger than `max_entries` need; leave `archive` open.

    `encoding` is the code page of names that state none.
    """
    size = archive.seek(0, 2)
    ends = _find_ends(archive, size)
    if not ends:
        return Opened(None, [_explain_no_end(archive, size)], [])
    problems = [*_find_tricks(ends)] or [*_find_excess(ends[0], max_entries)]
    if problems:
        return Opened(None, problems, [])
    try:
        entries = _read_directory(archive, ends[0], encoding)
    except BrokenZip as error:
        return Opened(None, [_broken(f"its directory cannot be read ({error})")], [])
    if len(entries) % 65_536 != ends[0].entries % 65_536:
        stated = f"it states {ends[0].entries:,} entries and lists {len(entries):,}"
        return Opened(None, [_broken(stated)], [])
    read = Archive(archive, entries, ends[0].directory_start)
    return Opened(read, [], list(_find_surroundings(ends[0], size)))


def _read_directory(archive: BinaryIO, end: End, encoding: str | None) -> list[Entry]:
    """Return the entries in the directory's order. Bytes in front of the archive shift all their offsets."""
    if isinstance(archive, Prefetching):
        archive.prefetch([(end.directory_start, end.directory_end)])
    archive.seek(end.directory_start)
    directory = archive.read(end.directory_size)
    if isinstance(archive, Prefetching):
        archive.prefetch([])  # drop the fetched bytes: they are not needed twice
    if len(directory) < end.directory_size:
        raise BrokenZip("it ends too early")
    return list(read_entries(directory, end.directory_start - end.directory_offset, encoding))


def _find_ends(archive: BinaryIO, size: int) -> list[End]:
    """Return the record that most readers use, followed by any other that could pass for it."""
    start = max(size - END_SIZE - LONGEST_COMMENT, 0)
    archive.seek(start)
    tail = archive.read()
    positions = [match.start() for match in re.finditer(re.escape(END), tail) if match.start() + END_SIZE <= len(tail)]
    found = [_read_end(tail, position, start) for position in positions]
    fits = [end for end in found if end.position + END_SIZE + end.comment_size == size]
    chosen = next((end for end in fits if not end.comment_size), found[-1] if found else None)
    return [] if chosen is None else [chosen, *(end for end in fits if end is not chosen)]


def _read_end(tail: bytes, position: int, start: int) -> End:
    disk, _, _, entries, size, offset, comment = struct.unpack_from("<4H2LH", tail, position + 4)
    large = _read_end64(tail, position)
    if large:
        return End(start + position, start + position - SIZE64, disk, *large, comment)
    return End(start + position, start + position, disk, entries, size, offset, comment)


def _read_end64(tail: bytes, position: int) -> tuple[int, int, int] | None:
    """Return the directory's entries, size and offset from the zip64 record, which lies right before its locator."""
    record = position - SIZE64
    if record < 0 or tail[position - 20 : position - 16] != LOCATOR64 or tail[record : record + 4] != END64:
        return None
    entries, size, offset = struct.unpack_from("<3Q", tail, record + 32)
    return entries, size, offset


def _explain_no_end(archive: BinaryIO, size: int) -> Finding:
    if not size:
        return Finding("empty_file", "The file is empty (0 bytes). Upload the zip again.")
    archive.seek(0)
    head = archive.read(512)
    if head.startswith(b"PK\x03\x04"):
        text = (
            f"It begins as a zip, but its {size:,} bytes end before the directory. The upload was cut: upload it again."
        )
        return Finding("truncated", text)
    kinds = [name for magic, name in OTHER_FORMATS.items() if head.lstrip().startswith(magic) or head.startswith(magic)]
    if head[257:262] == b"ustar":
        kinds = ["a tar archive"]
    what = f"it looks like {kinds[0]}" if kinds else f"and begins with {quote_bytes(head[:8])}"
    return Finding("not_a_zip", f"The file is not a zip, {what}. Pack the folder as .zip and upload that.")


def _find_tricks(ends: list[End]) -> Iterator[Finding]:
    """Yield what makes different programs read different files from the zip, or none."""
    end = ends[0]
    if len(ends) > 1:
        places = " and ".join(f"{each.position:,}" for each in sorted(ends, key=lambda each: each.position))
        text = f"The zip has {len(ends)} directories, ending at bytes {places}: programs differ in what they see. "
        yield Finding("ambiguous_directory", text + "Pack it again.", count=len(ends))
    elif end.disk not in (0, 0xFFFF):
        yield Finding("multi_part", f"This is part {end.disk + 1} of a zip in several parts. Pack it as one file.")
    elif end.directory_size > end.directory_end:
        yield _broken(f"a directory of {end.directory_size:,} bytes cannot end at byte {end.directory_end:,}")


def _find_excess(end: End, max_entries: int) -> Iterator[Finding]:
    if end.entries > max_entries:
        text = f"The zip lists {end.entries:,} entries; {max_entries:,} are the most that are served. Make it smaller."
        yield Finding("too_many_entries", text, count=end.entries)
    elif end.directory_size > max_entries * BYTES_AN_ENTRY:
        text = f"The zip's directory has {end.directory_size:,} bytes, far more than its entries need. Pack it again."
        yield Finding("directory_too_large", text)


def _broken(what: str) -> Finding:
    return Finding(
        "broken_directory", f"The zip is damaged: {what}. Pack it again, test it with `unzip -t`, upload it."
    )


def _find_surroundings(end: End, size: int) -> Iterator[Finding]:
    before = end.directory_end - end.directory_size - end.directory_offset
    after = size - end.position - END_SIZE - end.comment_size
    if before > 0:
        yield Finding("prefixed_data", f"{before:,} bytes stand before the zip (self-extracting?). They are ignored.")
    if after > 0:
        yield Finding("trailing_data", f"{after:,} bytes stand after the zip's end. They are ignored.")
