"""Find what is wrong with a zip's entries regardless of their content: names, links, passwords, bombs, overlaps.

Nothing here trusts a number that the archive states. Source of the format: PKWARE's APPNOTE.TXT 6.3.10.
"""

from __future__ import annotations

import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter

from chalicelib.datasets.archives import Archive
from chalicelib.datasets.directory import ENCRYPTED, HEADER, Entry
from chalicelib.datasets.findings import Finding, find_among

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
SERVED_METHODS = {STORED, DEFLATED}
ANY_KIND = stat.S_IFMT(0xFFFF)
ORDINARY_KINDS = (0, stat.S_IFREG, stat.S_IFDIR)
BOMB_RATIO = 100
BOMB_BYTES = 1_000_000  # a high ratio below this size is harmless: a blank icon reaches it
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
DRIVE = re.compile(r"[A-Za-z]:")


def find_entry_problems(archive: Archive) -> list[Finding]:
    """List everything that is wrong with entries regardless of their content."""
    odd = _list_odd(archive.entries)
    return [
        *_find_names(archive.entries),
        *_find_duplicates(archive.entries),
        *_find_kinds(odd),
        *_find_bombs(odd),
        *_find_overlaps(archive.entries, archive.directory_start),
        *_find_two_sizes(odd),
    ]


def _list_odd(entries: Iterable[Entry]) -> list[Entry]:
    """Return the unusual entries, so that the checks that follow look at few of them."""
    return [
        entry
        for entry in entries
        if entry.flag_bits & ENCRYPTED
        or entry.external_attr >> 16 & ANY_KIND not in ORDINARY_KINDS
        or (
            entry.file_size != entry.compress_size if entry.compress_type == STORED else entry.compress_type != DEFLATED
        )
        or (entry.file_size > BOMB_BYTES and _is_bomb(entry))
    ]


def is_readable(entry: Entry) -> bool:
    """Return whether an entry may be opened: not encrypted, and packed by a method whose growth is bounded."""
    return not entry.flag_bits & ENCRYPTED and entry.compress_type in SERVED_METHODS


def _find_names(entries: list[Entry]) -> Iterator[Finding]:
    """Yield names that escape the folder they are unpacked in, or that no folder can hold."""
    odd = [entry for entry in entries if entry.filename is not entry.orig_filename or not _is_plain(entry.filename)]
    names = [name for entry in odd if not _is_plain(name := _name_in_full(entry)) and not name.endswith("Icon\r")]
    advice = "Pack the folder again from inside it, with relative names."
    yield from find_among(
        "name_escapes", filter(_escapes, names), "name leaves the folder|names leave the folder", advice
    )
    yield from find_among(
        "name_has_backslash",
        (name for name in names if "\\" in name and not _escapes(name)),
        "name has a backslash|names have backslashes",
        "Zip names use '/': pack it with another program (Windows' own and 7-Zip do right).",
    )
    yield from find_among(
        "name_has_control_characters",
        filter(CONTROL.search, names),
        "name has control characters|names have control characters",
        "Rename them.",
    )


def _name_in_full(entry: Entry) -> str:
    """Return the name to go by, with what follows a NUL in it."""
    return entry.orig_filename if "\0" in entry.orig_filename else entry.filename


def _is_plain(name: str) -> bool:
    """Return whether a name holds nothing that could be wrong, which is true of nearly all."""
    return name.isprintable() and not (".." in name or "\\" in name or ":" in name or name.startswith("/"))


def _escapes(name: str) -> bool:
    return (
        name.startswith(("/", "\\")) or (".." in name and ".." in re.split(r"[/\\]", name)) or bool(DRIVE.match(name))
    )


def _find_duplicates(entries: list[Entry]) -> list[Finding]:
    if len({entry.filename for entry in entries}) == len(entries):
        return []
    counts = Counter(entry.filename for entry in entries)
    twice = (name for name, count in counts.items() if count > 1)
    advice = "Which one counts cannot be known: pack it again."
    return find_among("duplicate_names", twice, "name stands there twice|names stand there twice", advice)


def _find_kinds(entries: list[Entry]) -> Iterator[Finding]:
    """Yield entries of a kind that is not supported: links, encrypted entries, rare compression methods."""
    advice = "Pack the images themselves (zip without -y)."
    yield from _find_where(
        "links", entries, _is_special, "entry is a link or device|entries are links or devices", advice
    )
    advice = "Pack it without a password."
    yield from _find_where(
        "encrypted", entries, lambda entry: entry.is_encrypted, "entry is encrypted|entries are encrypted", advice
    )
    odd = {_name_method(entry.compress_type) for entry in entries if entry.compress_type not in SERVED_METHODS}
    yield from _find_where(
        "unsupported_compression",
        entries,
        lambda entry: entry.compress_type not in SERVED_METHODS,
        f"entry is packed by {_join(odd)}|entries are packed by {_join(odd)}",
        "Pack it with 'store' or 'deflate'.",
    )


def _find_where(
    code: str, entries: Iterable[Entry], holds: Callable[[Entry], bool], what: str, advice: str
) -> list[Finding]:
    return find_among(code, (entry.filename for entry in entries if holds(entry)), what, advice)


def _is_special(entry: Entry) -> bool:
    """Return whether an entry is a link or a device; Unix keeps its type in the attributes' high half (0 is none)."""
    kind = stat.S_IFMT(entry.external_attr >> 16) if entry.create_system == 3 else 0
    return kind not in ORDINARY_KINDS


def _name_method(method: int) -> str:
    return {9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 98: "PPMd"}.get(
        method, f"method {method}"
    )


def _join(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _find_bombs(entries: list[Entry]) -> list[Finding]:
    times = f"more than {BOMB_RATIO} times"
    what = f"entry unpacks to {times} its size|entries unpack to {times} their size"
    return _find_where("zip_bomb", entries, _is_bomb, what, "Pictures do not: take them out.")


def _is_bomb(entry: Entry) -> bool:
    return entry.file_size > BOMB_BYTES and entry.file_size > BOMB_RATIO * entry.compress_size


def _find_overlaps(entries: list[Entry], directory: int) -> list[Finding]:
    """Find entries that share bytes with another or with the directory, by which a small zip unpacks to any size."""
    ordered = sorted(entries, key=attrgetter("header_offset"))
    limits = [entry.header_offset for entry in ordered[1:]] + [directory]
    lying = [
        entry.filename
        for entry, limit in zip(ordered, limits, strict=False)
        if entry.header_offset < 0 or entry.header_offset + HEADER.size + entry.compress_size > limit
    ]
    return find_among(
        "overlapping_entries",
        lying,
        "entry overlaps what follows it|entries overlap what follows them",
        "The zip is damaged or a bomb: pack it again.",
    )


def _find_two_sizes(entries: list[Entry]) -> list[Finding]:
    return _find_where(
        "sizes_disagree",
        entries,
        lambda entry: (
            entry.compress_type == STORED and entry.compress_size != entry.file_size and not entry.is_encrypted
        ),
        "entry is stored and has two sizes|entries are stored and have two sizes",
        "The zip is damaged: pack it again.",
    )
