"""Tell an image's format, size and completeness from its bytes, without decoding it.

Sources: ITU-T T.81 (JPEG markers), the PNG specification, Google's WebP container specification, GIF89a, Microsoft's
BITMAPINFOHEADER, TIFF 6.0, ISO/IEC 23008-12 (the boxes of HEIF and AVIF).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

STRANGERS = {
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip",
    b"<": "a web page or XML",
    b"{": "JSON",
    b"version https://git-lfs": "a Git LFS pointer in place of the file",
}
NO_FRAME = {0xC4, 0xC8, 0xCC}
BMP_HEADERS = {size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124)}


class PictureHeader(NamedTuple):
    """Format, width and height in pixels (None if they are not among the bytes)."""

    format: str
    width: int | None
    height: int | None


def read_header(head: bytes) -> PictureHeader | None:
    """Return an image's header, or None if these bytes begin no format that is decoded."""
    if head.startswith(b"\xff\xd8\xff"):
        return PictureHeader("JPEG", *_measure_jpeg(head))
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PictureHeader("PNG", *(_measure_png(head) if head[12:16] == b"IHDR" else (None, None)))
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return PictureHeader("WebP", *_measure_webp(head))
    if head.startswith((b"GIF87a", b"GIF89a")):
        return PictureHeader("GIF", *(struct.unpack_from("<2H", head, 6) if len(head) >= 10 else (None, None)))
    if head.startswith(b"BM") and head[14:18] in BMP_HEADERS:
        return PictureHeader("BMP", *_measure_bmp(head))
    if head.startswith((b"II*\0", b"MM\0*")):
        return PictureHeader("TIFF", None, None)
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return PictureHeader("AVIF", *_measure_avif(head))
    return None


def is_cut_short(body: bytes, header: PictureHeader) -> bool:
    """Return whether a file lacks its end: a JPEG's end marker, a part of a PNG's chunk, a length that is stated."""
    match header.format:
        case "TIFF":
            return int.from_bytes(body[4:8], "little" if body[:1] == b"I" else "big") >= len(body)
        case "AVIF":
            return False
        case _ if header.width is None:
            return True
        case "WebP":
            return int.from_bytes(body[4:8], "little") + 8 > len(body)
        case "BMP":
            return int.from_bytes(body[10:14], "little") >= len(body)
        case "GIF":
            return b"," not in body[13:]
        case "PNG":
            return _is_png_cut(body)
    return b"\xff\xd9" not in body


def _is_png_cut(body: bytes) -> bool:
    """Return whether a PNG ends within a chunk, or before its image data. Its last chunk alone may be missing."""
    position, has_data = 8, False
    while position + 8 <= len(body):
        length, kind = int.from_bytes(body[position : position + 4], "big"), body[position + 4 : position + 8]
        if kind == b"IEND":
            break
        position += 12 + length
        has_data = has_data or kind == b"IDAT"
    return position > len(body) or not has_data


def guess_format(head: bytes) -> str:
    """Say in words what the bytes really are."""
    if not head.strip(b"\0"):
        return "empty" if not head else "nothing but zeros"
    if head[4:8] == b"ftyp":
        return "a HEIC" if head[8:11] in (b"hei", b"hev", b"mif", b"msf") else "a video"
    if head.startswith(b"\xff\x0a") or head[4:8] == b"JXL ":
        return "a JPEG XL"
    if head[4:8] == b"jP  ":
        return "a JPEG 2000"
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


def _measure_bmp(head: bytes) -> tuple[int | None, int | None]:
    if len(head) < 26:
        return None, None
    width, height = struct.unpack_from("<2H" if head[14] == 12 else "<2l", head, 18)
    return abs(width), abs(height)


def _measure_avif(head: bytes) -> tuple[int | None, int | None]:
    """Return width and height from the first image property of that kind (`ispe`)."""
    at = head.find(b"ispe")
    return struct.unpack_from(">2L", head, at + 8) if 0 < at <= len(head) - 16 else (None, None)
