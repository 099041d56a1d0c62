"""Sort the entries of a dataset's zip into splits and classes by the layout rule. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from chalicelib.datasets.directory import Entry
from chalicelib.datasets.layouts import (
    Layout,
    find_layout,
    is_image_name,
    is_litter_file,
    is_litter_folder,
    split_folder,
)

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class DatasetLimits:
    """The limits of a dataset. Bytes are counted unpacked; the pixels' two limits are the endpoint's too."""

    max_images: int = 500_000
    max_bytes: int = 20_000_000_000
    max_classes: int = 1_000
    max_image_bytes: int = 50_000_000
    max_pixels: int = 50_000_000
    max_webp_pixels: int = 25_000_000
    max_imbalance: int = 10
    small_class: int = 10
    samples_per_class: int = 3
    max_samples: int = 200

    @property
    def max_entries(self) -> int:
        """Allow for folders and for the double that macOS adds to each file, on top of the images."""
        return 2 * self.max_images + 10_000


@dataclass
class Contents:
    """The entries of an archive, sorted by the layout. `images` are keyed by split and class."""

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


def sort_out(entries: Iterable[Entry]) -> Contents:
    """Sort every entry: an image of a class, a stranger in a class folder, or ignored.

    A hundred thousand images lie in a few hundred folders, so each folder's name is interpreted once.
    """
    files = _group_by_folder(entries)
    parts = {name: split_folder(name) for name in files}
    kept = {name: split for name, split in parts.items() if not is_litter_folder(split)}
    contents = Contents(find_layout(_find_picture_folders(files, kept)))
    for name, split in kept.items():
        place = contents.layout.place(split)
        if place is None:
            contents.ignored += files[name]
        else:
            contents.folders.add(place)
            _sort_out_class(files[name], place, contents)
    return contents


def _group_by_folder(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Return the files of each folder without litter. A folder without files of its own is included."""
    files: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        folder, _, file = entry.filename.rpartition("/")
        members = files[folder]
        if file and not is_litter_file(file):
            members.append(entry)
    return files


def _sort_out_class(files: Iterable[Entry], place: tuple[str, str], contents: Contents) -> None:
    """Separate the images from the strangers among the files of a folder within a class."""
    images: list[Entry] = []
    for entry in files:
        (images if is_image_name(entry.filename) else contents.strangers).append(entry)
    if images:
        contents.images[place] += images


def _find_picture_folders(
    files: Mapping[str, Sequence[Entry]], kept: Mapping[str, tuple[str, ...]]
) -> set[tuple[str, ...]]:
    """Return the folders that hold images; if there are none, those that hold any file, to locate the classes."""
    with_images = {kept[name] for name in kept if any(is_image_name(entry.filename) for entry in files[name])}
    return with_images or {kept[name] for name in kept if files[name]}
