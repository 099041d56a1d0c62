"""The entries of a dataset's zip, sorted out by the layout rule. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from chalicelib.archive_directory import Entry
from chalicelib.layouts import Layout, find_layout, is_image_name, is_litter_file, is_litter_folder, split_folder

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
    images: dict[tuple[str, str], list[Entry]] = field(default_factory=lambda: defaultdict(list))
    folders: set[tuple[str, str]] = field(default_factory=set)
    strangers: list[Entry] = field(default_factory=list)
    ignored: list[Entry] = field(default_factory=list)

    def classes(self, split: str | None = None) -> set[str]:
        return {label for part, label in self.images if split in (None, part)}

    def splits(self) -> dict[str, dict[str, int]]:
        counts: dict[str, dict[str, int]] = {}
        for split in SPLITS:
            found = {label: len(self.images[split, label]) for label in sorted(self.classes(split))}
            if found:
                counts[split] = found
        return counts

    def all_images(self) -> Iterator[Entry]:
        for images in self.images.values():
            yield from images


def sort_out(entries: Sequence[Entry]) -> Contents:
    """Every entry in its place: an image of a class, a stranger in a class folder, or ignored.

    A hundred thousand images lie in a few hundred folders, so what a folder's name says is worked out once.
    """
    names = {name: split_folder(name) for name in {_name_folder(entry) for entry in entries}}
    kept = {name: parts for name, parts in names.items() if not is_litter_folder(parts)}
    contents = Contents(find_layout(_find_picture_folders(entries, kept)))
    places = {name: contents.layout.place(parts) for name, parts in kept.items()}
    contents.folders.update(place for place in places.values() if place)
    for entry in entries:
        folder, _, file = entry.filename.rpartition("/")
        if not file or folder not in kept or is_litter_file(file):
            continue
        place = places[folder]
        if place is None:
            contents.ignored.append(entry)
        elif is_image_name(file):
            contents.images[place].append(entry)
        else:
            contents.strangers.append(entry)
    return contents


def _find_picture_folders(entries: Sequence[Entry], kept: Mapping[str, tuple[str, ...]]) -> set[tuple[str, ...]]:
    """The folders that hold images; where no file is one, those that hold any file, to say where classes would be."""
    for counts in (is_image_name, bool):
        names = {
            _name_folder(entry)
            for entry in entries
            if counts(file := entry.filename.rpartition("/")[2]) and not is_litter_file(file)
        }
        if names & kept.keys():
            return {kept[name] for name in names & kept.keys()}
    return set()


def _name_folder(entry: Entry) -> str:
    return entry.filename.rpartition("/")[0]
