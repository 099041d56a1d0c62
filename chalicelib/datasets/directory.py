"""Read a zip's central directory and the first bytes of its entries. Source: PKWARE's APPNOTE.TXT 6.3.10, section 4.3.

zipfile needs three times the time and twice the memory, since its entries can be written too, and a Lambda function has
little of either. A test compares this reader with zipfile, entry by entry.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from chalicelib.datasets.findings import quote_bytes
from chalicelib.datasets.reading.names import UNICODE_PATH, UTF8_FLAG, decode_name
from chalicelib.errors import BrokenZip

CENTRAL = struct.Struct("<4sxBBx2H4x3L3H4x2L")  # without the times and other fields that nothing uses
CENTRAL_MARK = b"PK\x01\x02"
HEADER = struct.Struct("<4s2B4H3L2H")
NO_EXTRA: dict[int, bytes] = {}
HEADER_MARK = b"PK\x03\x04"
PATCHED = 0x20
ENCRYPTED = 0x41  # both ways of encrypting
NEWEST_VERSION = 63  # of the format, times ten
IN_ZIP64 = 0xFFFF_FFFF
PACKING_BYTES = 1024  # deflate makes noise slightly larger than it was
MOST_EXTRA_BYTES = 64  # in a local header, for times and owners; longer ones cost one more read


@dataclass(slots=True)
class Entry:
    """An entry as the directory states it, under zipfile's names. None of it need be true. Sizes in bytes.

    `orig_filename` is the name as the flags alone give it, and `filename` the one to go by, which ends at a NUL;
    `is_guessed` says that nothing stated its encoding. `header_offset` counts from the beginning of the file.
    """

    filename: str
    orig_filename: str
    create_system: int
    flag_bits: int
    compress_type: int
    CRC: int
    compress_size: int
    file_size: int
    external_attr: int
    header_offset: int
    is_guessed: bool = False

    @property
    def is_encrypted(self) -> bool:
        return bool(self.flag_bits & ENCRYPTED)

    def find_span(self, head: int) -> tuple[int, int]:
        """Return the (start, end) of its local header and the first `head` bytes of its data."""
        header = HEADER.size + len(self.orig_filename.encode()) + MOST_EXTRA_BYTES
        return self.header_offset, self.header_offset + header + min(self.compress_size, head + PACKING_BYTES)


def read_entries(directory: bytes, shift: int, encoding: str | None = None) -> Iterator[Entry]:
    """Yield the entries of a directory; `shift` counts the bytes in front of the archive. Raise BrokenZip.

    `encoding` is the code page of names that state none.
    """
    position, end, fixed = 0, len(directory), CENTRAL.size
    attributes: dict[int, int] = {}  # one number object shared by all entries that have it
    while position < end:
        if position + fixed > end:
            raise BrokenZip("it ends within an entry")
        (mark, system, version, flags, method, crc, packed, size, name_length, extra_length, comment_length, *rest) = (
            CENTRAL.unpack_from(directory, position)
        )
        if mark != CENTRAL_MARK:
            raise BrokenZip(f"no entry begins at its byte {position:,}")
        if version > NEWEST_VERSION:
            raise BrokenZip(f"an entry needs version {version / 10:.1f} of the format")
        outer, offset = rest
        position += fixed
        raw = directory[position : position + name_length]
        position += name_length
        extra = _split_extra(directory[position : position + extra_length]) if extra_length else NO_EXTRA
        if extra_length:
            size, packed, offset = _read_zip64(extra, size, packed, offset)
        name, file_name, guessed = _read_names(raw, flags, system, extra, encoding)
        if size == packed:
            size = packed  # one number object for both
        outer = attributes.setdefault(outer, outer)
        yield Entry(file_name, name, system, flags, method, crc, packed, size, outer, offset + shift, guessed)
        position += extra_length + comment_length


def _read_names(
    raw: bytes, flags: int, system: int, extra: dict[int, bytes], encoding: str | None
) -> tuple[str, str, bool]:
    """Return the name by its flags, the one to go by, and whether that was guessed. Raise BrokenZip as zipfile does."""
    if raw.isascii() and UNICODE_PATH not in extra and b"\\" not in raw and b"\0" not in raw:
        plain = raw.decode("ascii")
        return plain, plain, False
    path, name = extra.get(UNICODE_PATH), _read_name(raw, flags)
    if path is not None and len(path) < 5:
        raise BrokenZip("a Unicode path field is cut short")
    try:
        chosen, guessed = decode_name(raw, flags=flags, system=system, path=path, encoding=encoding)
    except UnicodeDecodeError as error:
        raise BrokenZip(f"the Unicode path of {quote_bytes(raw[:40])} is not UTF-8") from error
    return name, chosen.partition("\0")[0], guessed


def _read_name(raw: bytes, flags: int) -> str:
    if raw.isascii():
        return raw.decode("ascii")
    try:
        return raw.decode("utf-8" if flags & UTF8_FLAG else "cp437")
    except UnicodeDecodeError as error:
        raise BrokenZip(f"the name {quote_bytes(raw[:40])} is not the UTF-8 that it states") from error


def _split_extra(extra: bytes) -> dict[int, bytes]:
    """Return the extra fields by their identifiers."""
    fields: dict[int, bytes] = {}
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if length + 4 > len(extra):
            raise BrokenZip(f"the extra field {kind:#06x} is cut short")
        fields.setdefault(kind, extra[4 : length + 4])
        extra = extra[length + 4 :]
    return fields


def _read_zip64(extra: dict[int, bytes], size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Return the three numbers, taking from the zip64 field those that do not fit into 32 bits."""
    if 1 not in extra:
        return size, packed, offset
    field, numbers = extra[1], []
    for number in (size, packed, offset):
        if number == IN_ZIP64:
            if len(field) < 8:
                raise BrokenZip("a zip64 field is cut short")
            number, field = int.from_bytes(field[:8], "little"), field[8:]
        numbers.append(number)
    return numbers[0], numbers[1], numbers[2]


def read_head(archive: BinaryIO, entry: Entry, head: int) -> bytes:
    """Return the first `head` bytes of an entry, unpacked; compare its checksum if that is all of it.

    Raise BrokenZip if the entry is not what the directory states, or cannot be unpacked.
    """
    archive.seek(entry.header_offset)
    mark, _, _, flags, *_, name_length, extra_length = _unpack_header(archive.read(HEADER.size))
    if mark != HEADER_MARK:
        raise BrokenZip("no file begins where the directory says")
    name = _read_name(archive.read(name_length), flags)
    if name != entry.orig_filename:
        raise BrokenZip("the directory and the file's own header name it differently")
    if entry.flag_bits & PATCHED:
        raise BrokenZip("it is a patch, not a file")
    archive.seek(entry.header_offset + HEADER.size + name_length + extra_length)
    packed = archive.read(min(entry.compress_size, head + PACKING_BYTES))
    body = _unpack(packed, entry, head)
    if len(body) >= entry.file_size and zlib.crc32(body[: entry.file_size]) != entry.CRC:
        raise BrokenZip("its checksum is wrong")
    if len(body) < min(entry.file_size, head) and len(packed) < head + PACKING_BYTES:
        raise BrokenZip("its bytes end too early")
    return body[: entry.file_size]


def _unpack_header(raw: bytes) -> tuple[bytes, int, int, int, int, int, int, int, int, int, int, int]:
    if len(raw) < HEADER.size:
        raise BrokenZip("the archive ends within its header")
    return HEADER.unpack(raw)


def _unpack(packed: bytes, entry: Entry, head: int) -> bytes:
    if entry.compress_type == zipfile.ZIP_STORED:
        return packed[:head]
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, head)
    except zlib.error as error:
        raise BrokenZip(str(error)) from error
