"""The entries of a dataset's zip, sorted out by the layout rule. Pure."""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from chalicelib.layouts import Layout, find_layout, is_image_name, is_litter, split_name

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class DatasetLimits:
    """What is served at most. Bytes are unpacked ones; `max_pixels` is what the endpoint takes too."""

    max_images: int = 500_000
    max_bytes: int = 20_000_000_000
    max_classes: int = 1_000
    max_image_bytes: int = 50_000_000
    max_pixels: int = 50_000_000
    max_imbalance: int = 10
    small_class: int = 10
    samples_per_class: int = 3
    max_samples: int = 200

    @property
    def max_entries(self) -> int:
        """Folders, and the double that macOS adds to each file, come on top of the images."""
        return 2 * self.max_images + 10_000


@dataclass
class Contents:
    """The entries of an archive, sorted out by the layout. `images` are by split and class."""

    layout: Layout
    images: dict[tuple[str, str], list[zipfile.ZipInfo]] = field(default_factory=lambda: defaultdict(list))
    folders: set[tuple[str, str]] = field(default_factory=set)
    strangers: list[zipfile.ZipInfo] = field(default_factory=list)
    ignored: list[zipfile.ZipInfo] = field(default_factory=list)

    def classes(self, split: str | None = None) -> set[str]:
        return {label for part, label in self.images if split in (None, part)}

    def splits(self) -> dict[str, dict[str, int]]:
        counts: dict[str, dict[str, int]] = {}
        for split in SPLITS:
            found = {label: len(self.images[split, label]) for label in sorted(self.classes(split))}
            if found:
                counts[split] = found
        return counts

    def all_images(self) -> Iterator[zipfile.ZipInfo]:
        for images in self.images.values():
            yield from images


def sort_out(entries: Sequence[zipfile.ZipInfo]) -> Contents:
    """Every entry in its place: an image of a class, a stranger in a class folder, or ignored."""
    any_image = any(is_image_name(entry.filename) for entry in entries)
    contents = Contents(find_layout(lambda: _read_paths(entries, images_only=any_image)))
    for entry in entries:
        parts = split_name(entry.filename)
        if is_litter(parts):
            continue
        is_folder = entry.filename.endswith("/")
        place = contents.layout.place((*parts, "") if is_folder else parts)
        if place:
            contents.folders.add(place)
        if is_folder:
            continue
        if place is None:
            contents.ignored.append(entry)
        elif is_image_name(entry.filename):
            contents.images[place].append(entry)
        else:
            contents.strangers.append(entry)
    return contents


def _read_paths(entries: Iterable[zipfile.ZipInfo], images_only: bool) -> Iterator[tuple[str, ...]]:
    for entry in entries:
        if entry.filename.endswith("/") or (images_only and not is_image_name(entry.filename)):
            continue
        parts = split_name(entry.filename)
        if not is_litter(parts):
            yield parts
