"""Sort the entries of a dataset's zip into splits and classes. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from chalicelib.datasets.directory import Entry
from chalicelib.datasets.reading.folders import Folder, Layout, find_layout
from chalicelib.datasets.reading.labels import (
    LabelTable,
    Wishes,
    choose_form,
    find_label_files,
    find_split,
    place_images,
    read_part,
)
from chalicelib.datasets.reading.names import (
    has_no_suffix,
    is_ignored,
    is_image_name,
    is_litter_file,
    is_litter_folder,
    split_folder,
)

SPLITS = ("train", "valid", "test")
USUAL = (".jpg", ".png")  # the suffixes of most files: a hundred thousand names are looked at


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
    tuned_imbalance: int = 3
    small_class: int = 10
    samples_per_class: int = 3
    max_samples: int = 200

    @property
    def max_entries(self) -> int:
        """Allow for folders and for the double that macOS adds to each file, on top of the images."""
        return 2 * self.max_images + 10_000


@dataclass
class Contents:
    """The entries of an archive, sorted. `images` are keyed by split and class.

    `folders` are the class folders, `strangers` the files in them that are no images, `unplaced` the images without a
    class by their folder, `hidden` those in folders of programs, `left_out` what the recipe ignores, `others` the other
    files. `form` says where the labels come from: `folders`, `file` or `pattern`.
    """

    layout: Layout
    form: str = "folders"
    images: dict[tuple[str, str], list[Entry]] = field(default_factory=lambda: defaultdict(list))
    folders: set[tuple[str, str]] = field(default_factory=set)
    strangers: list[Entry] = field(default_factory=list)
    unplaced: dict[Folder, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    hidden: dict[Folder, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    left_out: list[Entry] = field(default_factory=list)
    others: list[Entry] = field(default_factory=list)
    label_files: list[Entry] = field(default_factory=list)
    missing_files: list[str] = field(default_factory=list)

    def classes(self, split: str | None = None) -> set[str]:
        return {label for part, label in self.images if split in (None, part)}

    def splits(self) -> dict[str, dict[str, int]]:
        counts: dict[str, dict[str, int]] = {}
        for split in SPLITS:
            found = {label: len(self.images[split, label]) for label in sorted(self.classes(split))}
            if found:
                counts[split] = found
        return counts

    @property
    def count(self) -> int:
        return sum(map(len, self.images.values()))

    def all_images(self) -> Iterator[Entry]:
        for images in self.images.values():
            yield from images


@dataclass
class Files:
    """The files of an archive by folder: images (by their names or their bytes) and others; litter is left out."""

    images: dict[Folder, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    others: dict[Folder, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    hidden: dict[Folder, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    left_out: list[Entry] = field(default_factory=list)


def group_files(entries: Iterable[Entry], ignore: tuple[str, ...] = ()) -> Files:
    """Group files by folder, each folder's name interpreted once: a hundred thousand images lie in a few hundred."""
    files = Files()
    folders: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        folder, _, file = entry.filename.rpartition("/")
        if ignore and is_ignored(entry.filename, ignore):
            files.left_out += [entry] if file else []
            continue
        members = folders[folder]
        if file and ((file.endswith(USUAL) and file[0] != ".") or not is_litter_file(file)):
            members.append(entry)
    for name, members in folders.items():
        parts = split_folder(name)
        images = [entry for entry in members if is_image_name(entry.filename)]
        if is_litter_folder(parts):
            files.hidden[parts] += images
        else:
            files.images[parts] += images
            files.others[parts] += (
                members if not images else [] if len(images) == len(members) else _without(members, images)
            )
    return files


def _without(members: Iterable[Entry], images: Iterable[Entry]) -> list[Entry]:
    taken = set(map(id, images))
    return [entry for entry in members if id(entry) not in taken]


def list_unknown(files: Files) -> dict[Folder, list[Entry]]:
    """Return the files by folder whose names do not say what they are."""
    unknown = {
        folder: [entry for entry in others if has_no_suffix(entry.filename.rpartition("/")[2])]
        for folder, others in files.others.items()
    }
    return {folder: entries for folder, entries in unknown.items() if entries}


def add_images(files: Files, told: Mapping[Folder, Collection[Entry]]) -> None:
    """Move files whose bytes are those of images to the images."""
    for folder, entries in told.items():
        files.images[folder] += entries
        files.others[folder] = _without(files.others[folder], entries)


def sort_out(files: Files, wishes: Wishes) -> Contents:
    """Sort every file by the folders' names, or by the recipe's pattern."""
    with_images = {folder: len(images) for folder, images in files.images.items() if images}
    contents = Contents(find_layout(with_images, wishes.class_level))
    contents.hidden, contents.left_out = files.hidden, files.left_out
    filled = {contents.layout.place(folder) for folder in with_images}
    for folder, images in files.images.items():
        place = contents.layout.place(folder)
        if place not in filled and not contents.layout.has_splits and files.others[folder]:
            place = None  # a folder of documents or scripts beside the classes
        if place is None:
            contents.others += files.others[folder]
        else:
            contents.folders.add(place)
            contents.strangers += files.others[folder]
        if images:
            (contents.unplaced[folder] if place is None else contents.images[place]).extend(images)
    names = {entry.filename: entry for others in files.others.values() for entry in others}
    contents.label_files = [names[name] for name in find_label_files(names)]
    trained = len(contents.classes("train"))
    contents.form = choose_form(wishes, trained, bool(contents.label_files))
    if wishes.label_pattern and contents.form == "pattern":
        sort_by_pattern(contents, files, wishes.label_pattern)
    return contents


def sort_by_pattern(contents: Contents, files: Files, pattern: str) -> None:
    """Sort the images by the labels in their names."""
    _sort_by_name(
        contents,
        files,
        {
            entry.filename: (find_split(entry.filename, contents.layout.bases), label)
            for images in files.images.values()
            for entry in images
            if (label := read_part(pattern, entry.filename)) is not None
        },
    )


def sort_by_tables(contents: Contents, files: Files, tables: Mapping[str, LabelTable]) -> None:
    """Sort the images by the labels in files."""
    names = [entry.filename for images in files.images.values() for entry in images]
    placed, contents.missing_files = place_images(names, tables, contents.layout.bases)
    _sort_by_name(contents, files, placed)
    contents.others = [entry for entry in contents.others if entry.filename not in tables]


def _sort_by_name(contents: Contents, files: Files, placed: Mapping[str, tuple[str, str]]) -> None:
    contents.images, contents.unplaced, contents.folders = defaultdict(list), defaultdict(list), set()
    contents.others, contents.strangers = [entry for others in files.others.values() for entry in others], []
    for folder, images in files.images.items():
        for entry in images:
            place = placed.get(entry.filename)
            (contents.unplaced[folder] if place is None else contents.images[place]).append(entry)
