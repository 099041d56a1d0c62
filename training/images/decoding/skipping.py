"""Say in words why an image was skipped, and what its file really is."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from job.settings import TrainingError

CORRUPT_LIMIT = 0.1
FORMATS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"version https://git-lfs", "Git LFS pointer"),
    (b"<", "web page or XML"),
    (b"{", "JSON"),
)
BOXES = {b"avif": "AVIF", b"avis": "AVIF", b"hei": "HEIC", b"hev": "HEIC", b"mif": "HEIC", b"msf": "HEIC"}
WORDS = (
    (r"truncated|ends too early|Truncated", "it ends too early"),
    (r"cannot identify image file", "it is not an image of a supported format"),
    (r"exceeds limit|are more than|DecompressionBomb", "it has too many pixels or bytes"),
    (r"Bad CRC|decompressing|invalid stored|invalid block|invalid distance", "it is damaged within the zip"),
    (r"broken data stream|broken PNG|checksum", "its data are damaged"),
)


ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of an object in memory, which differs from run to run


@dataclass(frozen=True)
class Skipped:
    """An image that was skipped: its name, what is wrong in words, and its format by its bytes."""

    name: str
    reason: str
    format: str
    error: str


def tell_format(data: bytes) -> str:
    """Return the format that a file's bytes begin."""
    if not data.strip(b"\0"):
        return "nothing but zeros" if data else "empty"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        return next((name for brand, name in BOXES.items() if data[8:12].startswith(brand)), "video")
    known = (name for magic, name in FORMATS if data.startswith(magic) or data[:64].lstrip().startswith(magic))
    return next(known, "text" if _is_text(data[:512]) else "unknown")


def _is_text(head: bytes) -> bool:
    return all(32 <= byte < 127 or byte in b"\t\r\n" or byte >= 128 for byte in head)


def explain(name: str, data: bytes | None, error: Exception) -> Skipped:
    """Describe why an image was skipped. data: its bytes, or None if they could not be unpacked."""
    told = ADDRESS.sub("", str(error))
    text = f"{type(error).__name__}: {told}"
    if data == b"":
        return Skipped(name, "it is empty (0 bytes)", "empty", told)
    if isinstance(error, (zlib.error, zipfile.BadZipFile, EOFError, NotImplementedError)):
        return Skipped(name, "it is damaged within the zip", "unknown", told)
    reason = next((words for pattern, words in WORDS if re.search(pattern, text)), "it cannot be decoded")
    return Skipped(name, reason, tell_format(data) if data is not None else "unknown", told)


def report_skipped(skipped: Sequence[Skipped], total: int) -> list[str]:
    """Warn of skipped images; raise TrainingError if they are more than CORRUPT_LIMIT of all."""
    if not skipped:
        return []
    first = skipped[0]
    text = f"{len(skipped)} of {total} images cannot be read, the first: {first.name}: {first.reason}"
    if len(skipped) > CORRUPT_LIMIT * total:
        raise TrainingError(f"{text}; at most {CORRUPT_LIMIT:.0%} may be broken, so fix or remove them")
    return [f"{text}; they were skipped (skipped.json lists them all)"]


def describe_skipped(skipped: Sequence[Skipped], images: int) -> dict[str, Any]:
    """Build skipped.json. images: how many were used."""
    return {"format": 1, "images": images, "skipped": [asdict(each) for each in skipped]}
