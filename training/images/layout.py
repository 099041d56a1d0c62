"""List the images of a dataset's zip with their splits and classes, without decoding any.

The control plane's pre-flight follows the same rules (reading/), and a test compares the two on the same zips.
"""

from __future__ import annotations

import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from images.reading.folders import Folder, Layout, find_layout
from images.reading.labels import (
    MAX_LABEL_BYTES,
    LabelTable,
    Wishes,
    choose_form,
    find_label_files,
    find_split,
    place_images,
    read_label_file,
    read_part,
)
from images.reading.names import (
    UNICODE_PATH,
    UTF8_FLAG,
    begins_image,
    decode_name,
    has_no_suffix,
    is_ignored,
    is_image_name,
    is_litter_file,
    is_litter_folder,
    split_folder,
)

MAGIC_BYTES = 32
Read = Callable[[str, int], bytes]


@dataclass(frozen=True)
class Sample:
    """One image of the archive: its name, its split (train, valid, test) and its class."""

    name: str
    split: str
    label: str


@dataclass(frozen=True)
class Found:
    """The samples of a dataset, where their labels come from, and what keeps the dataset from being read."""

    samples: list[Sample]
    form: str = "folders"
    problem: str | None = None
    layout: Layout = field(default_factory=Layout)


def list_entries(opened: zipfile.ZipFile, encoding: str | None = None) -> dict[str, zipfile.ZipInfo]:
    """Return the files of a zip by their names, decoded alike under every version of Python."""
    entries = {_read_name(entry, encoding).partition("\0")[0]: entry for entry in opened.infolist()}
    return {name: entry for name, entry in entries.items() if not name.endswith("/")}


def _read_name(entry: zipfile.ZipInfo, encoding: str | None) -> str:
    raw = entry.orig_filename.encode("utf-8" if entry.flag_bits & UTF8_FLAG else "cp437")
    path = _find_unicode_path(entry.extra)
    return decode_name(raw, flags=entry.flag_bits, system=entry.create_system, path=path, encoding=encoding)[0]


def _find_unicode_path(extra: bytes) -> bytes | None:
    """Return the first extra field that holds a name in UTF-8."""
    while len(extra) >= 4:
        kind, length = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        if kind == UNICODE_PATH:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return None


def find_samples(names: Iterable[str]) -> list[Sample]:
    """List the images with their splits and classes by names alone, in the order of their names."""
    return read_layout(names, Wishes(), lambda *_: b"").samples


def read_layout(names: Iterable[str], wishes: Wishes, read: Read) -> Found:
    """Find the images with their splits and classes. read: returns the first bytes of a file, at most so many."""
    kept = [name for name in sorted(names) if _is_kept(name, wishes)]
    images = {name: folder for name in kept if _is_image(name, read) for folder in [_folder_of(name)]}
    layout = find_layout(Counter(images.values()), wishes.class_level)
    placed = {name: place for name, folder in images.items() if (place := layout.place(folder))}
    label_files = find_label_files(name for name in kept if name not in images)
    trained = {label for split, label in placed.values() if split == "train"}
    form, problem = choose_form(wishes, len(trained), bool(label_files)), layout.problem
    if form != "folders":
        placed, problem = _place_by_labels(form, images, layout, wishes, label_files, read)
    samples = [Sample(name, *placed[name]) for name in images if name in placed]
    return Found(samples, form, problem, layout)


def _place_by_labels(
    form: str, images: Mapping[str, Folder], layout: Layout, wishes: Wishes, label_files: Iterable[str], read: Read
) -> tuple[dict[str, tuple[str, str]], str | None]:
    """Return the split and label of each image from its name or from files of labels, or what is wrong with those."""
    if form == "pattern":
        labels = {name: read_part(wishes.label_pattern or "", name) for name in images}
        return {name: (find_split(name, layout.bases), label) for name, label in labels.items() if label}, None
    tables = {name: _read_labels(name, read) for name in label_files}
    wrong = [f"{name}: {table.problem}, {table.remark}" for name, table in tables.items() if table.problem]
    return ({}, wrong[0]) if wrong else (place_images(images, tables, layout.bases)[0], None)


def _read_labels(name: str, read: Read) -> LabelTable:
    body = read(name, MAX_LABEL_BYTES + 1)
    if len(body) > MAX_LABEL_BYTES:
        return LabelTable(problem="labels_not_recognised", remark=f"it has more than {MAX_LABEL_BYTES:,} bytes")
    return read_label_file(name, body)


def _is_kept(name: str, wishes: Wishes) -> bool:
    """Return whether an entry counts: no folder, no litter, not ignored by the recipe."""
    folder, _, file = name.rpartition("/")
    if not file or is_litter_file(file) or is_litter_folder(split_folder(folder)):
        return False
    return not (wishes.ignore and is_ignored(name, wishes.ignore))


def _is_image(name: str, read: Read) -> bool:
    file = name.rpartition("/")[2]
    return is_image_name(file) or (has_no_suffix(file) and begins_image(read(name, MAGIC_BYTES)))


def _folder_of(name: str) -> Folder:
    return split_folder(unicodedata.normalize("NFC", name.rpartition("/")[0]))
