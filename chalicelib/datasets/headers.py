"""Tell an image's format, size and completeness from its bytes, without decoding it.

Sources: ITU-T T.81 (JPEG markers), the PNG specification, Google's WebP container specification.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

STRANGERS = {
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\x00": "a TIFF",
    b"MM\x00*": "a TIFF",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip",
    b"<": "a web page or XML",
    b"{": "JSON",
    b"version https://git-lfs": "a Git LFS pointer in place of the file",
}
NO_FRAME = {0xC4, 0xC8, 0xCC}


class PictureHeader(NamedTuple):
    """Format (JPEG, PNG, WebP), width and height in pixels (None if the bytes end before them)."""

    format: str
    width: int | None
    height: int | None


def read_header(head: bytes) -> PictureHeader | None:
    """Return the header of a JPEG, PNG or WebP, or None if these bytes begin none of them."""
    if head.startswith(b"\xff\xd8\xff"):
        return PictureHeader("JPEG", *_measure_jpeg(head))
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PictureHeader("PNG", *(_measure_png(head) if head[12:16] == b"IHDR" else (None, None)))
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return PictureHeader("WebP", *_measure_webp(head))
    return None


def is_cut_short(body: bytes, header: PictureHeader) -> bool:
    """Return whether a file lacks its end: a JPEG's end marker, a PNG's last chunk, a WebP's stated length."""
    if header.width is None:
        return True
    if header.format == "WebP":
        return int.from_bytes(body[4:8], "little") + 8 > len(body)
    return (b"\xff\xd9" if header.format == "JPEG" else b"IEND") not in body


def guess_format(head: bytes) -> str:
    """Say in words what the bytes really are."""
    if not head.strip(b"\0"):
        return "empty" if not head else "nothing but zeros"
    if head[4:8] == b"ftyp":
        return "a HEIC, AVIF or video"
    for magic, name in STRANGERS.items():
        if head.startswith(magic) or head.lstrip().startswith(magic):
            return name
    return f"unknown ({head[:8]!r}…)"


def _measure_jpeg(head: bytes) -> tuple[int | None, int | None]:
    """Return width and height from the first frame header; skip the segments before it by their lengths."""
    position = 2
    while position + 9 <= len(head):
        if head[position] != 0xFF:
            return None, None
        marker = head[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
        elif 0xC0 <= marker <= 0xCF and marker not in NO_FRAME:
            height, width = struct.unpack_from(">2H", head, position + 5)
            return width, height
        else:
            position += 2 + max(int.from_bytes(head[position + 2 : position + 4], "big"), 2)
    return None, None


def _measure_png(head: bytes) -> tuple[int | None, int | None]:
    return struct.unpack_from(">2L", head, 16) if len(head) >= 24 else (None, None)


def _measure_webp(head: bytes) -> tuple[int | None, int | None]:
    if len(head) < 30:
        return None, None
    chunk = head[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<2H", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None, None
