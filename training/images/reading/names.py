"""Decode the names in a zip, and tell images from litter by them. Pure.

`chalicelib/datasets/reading/` and `training/images/reading/` hold the same text, which a test compares: pre-flight and
the training program are shipped apart, and must read every dataset alike.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterable
from fnmatch import translate
from functools import lru_cache

UTF8_FLAG = 0x800  # marks a name as UTF-8
UNICODE_PATH = 0x7075  # the extra field with the name in UTF-8 and the checksum of the name that it replaces
BACKSLASH_SYSTEMS = {0, 10, 14}  # FAT, NTFS and VFAT: .NET's and PowerShell's older packers write `\` as separator
FALLBACK = "cp437"  # what the format prescribes for a name without the UTF-8 flag
# Suffixes of formats that are decoded. A file without a suffix is told by its bytes.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".png", ".webp"),
    *(".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif"),
)
# Folders in which programs and operating systems keep their own files.
LITTER_FOLDERS = {"__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information"}
LITTER_FOLDERS |= {"lost+found", "__pycache__", ".ipynb_checkpoints", ".git", ".svn", ".thumbnails", ".trash"}
LITTER_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "icon\r"}
LITTER_SUFFIXES = (".tmp", ".part", ".crdownload", "~")
MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*")


def decode_name(raw: bytes, *, flags: int, system: int, path: bytes | None, encoding: str | None) -> tuple[str, bool]:
    """Decode an entry's name; return it in NFC with `/` as separator, and whether its encoding was guessed.

    path: the content of the extra field 0x7075. encoding: the code page that the recipe names.
    """
    name, guessed = _decode(raw, flags, path, encoding)
    if "\\" in name and system in BACKSLASH_SYSTEMS and not (guessed and "/" in name):
        name = name.replace("\\", "/")
    return (name if name.isascii() else unicodedata.normalize("NFC", name)), guessed


def _decode(raw: bytes, flags: int, path: bytes | None, encoding: str | None) -> tuple[str, bool]:
    if path and len(path) > 5 and path[0] == 1 and int.from_bytes(path[1:5], "little") == zlib.crc32(raw):
        return path[5:].decode(), False
    if raw.isascii():
        return raw.decode("ascii"), False
    if flags & UTF8_FLAG:
        return raw.decode(), False
    for each in (encoding, "utf-8"):
        try:
            if each:
                return raw.decode(each), False
        except UnicodeDecodeError:
            pass
    return raw.decode(FALLBACK), True


def split_folder(folder: str) -> tuple[str, ...]:
    """Return the parts of a folder's name."""
    return tuple([part for part in folder.split("/") if part and part != "."])


def is_litter_folder(folder: tuple[str, ...]) -> bool:
    """Return whether an operating system or a program keeps its own files there, or the folder is hidden."""
    return any(part[0] == "." or part.lower() in LITTER_FOLDERS for part in folder)


def is_litter_file(file: str) -> bool:
    """Return whether an operating system or a program left this file there."""
    lowered = file.lower()
    return file.startswith(".") or lowered in LITTER_FILES or lowered.endswith(LITTER_SUFFIXES)


def is_image_name(name: str) -> bool:
    """Return whether a name has the suffix of an image."""
    return name.endswith((".jpg", ".png")) or name.lower().endswith(IMAGE_SUFFIXES)


def has_no_suffix(file: str) -> bool:
    """Return whether a file's name says nothing about its format: no suffix, or one of digits."""
    stem, dot, suffix = file.rpartition(".")
    return not dot or not stem or suffix.isdigit()


def begins_image(head: bytes) -> bool:
    """Return whether bytes begin an image of a format that is decoded."""
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    return head.startswith(MAGIC) or (head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"))


@lru_cache(maxsize=8)
def _compile_patterns(patterns: tuple[str, ...]) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
    """Return one expression for the parts of a path, and one for whole paths."""
    parts = "|".join(translate(each.strip("/")) for each in patterns if "/" not in each.strip("/"))
    paths = "|".join(translate(f"*/{each.strip('/')}") for each in patterns if "/" in each.strip("/"))
    return (re.compile(parts) if parts else None), (re.compile(paths) if paths else None)


def is_ignored(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a recipe's pattern matches a folder or the file in a path; one with `/` matches consecutive parts.

    `*` is any text, `?` any character; what lies below a folder that matches is ignored too.
    """
    parts, paths = _compile_patterns(tuple(patterns))
    pieces = [piece for piece in name.split("/") if piece and piece != "."]
    if parts and any(parts.match(piece) for piece in pieces):
        return True
    if not paths:
        return False
    whole = "/".join(["", *pieces])
    return any(paths.match(whole[:end]) for end in [*(m.start() for m in re.finditer("/", whole)), len(whole)])
