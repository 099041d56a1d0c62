"""Where the splits and classes of a dataset are, from names alone. Pure.

Ignored: folders, whatever lies below `__MACOSX/` or begins with a dot, `Thumbs.db`, `desktop.ini`. The root is the
shallowest folder that contains a train folder; where there is none, the deepest folder common to all images whose
children are class folders, and every image is of train. The training program reads by the same rule, and a contract
test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "test": "test",
    "testing": "test",
}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
LITTER = {"thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Layout:
    """The folder that holds the splits, or the class folders where there are no splits."""

    root: tuple[str, ...]
    has_splits: bool

    @property
    def prefix(self) -> str:
        return "".join(f"{part}/" for part in self.root)

    def place(self, parts: tuple[str, ...]) -> tuple[str, str] | None:
        """The split and the class of a path, or None where it lies in no class folder."""
        depth = len(self.root)
        if parts[:depth] != self.root:
            return None
        below = parts[depth:]
        if not self.has_splits:
            return ("train", below[0]) if len(below) > 1 else None
        split = SPLITS.get(below[0].lower()) if len(below) > 2 else None
        return (split, below[1]) if split else None


def split_name(name: str) -> tuple[str, ...]:
    """The folders of an entry's name and the file at its end."""
    return tuple([part for part in name.split("/") if part and part != "."])


def is_litter(parts: tuple[str, ...]) -> bool:
    """Whether an operating system left it there."""
    return not parts or parts[-1].lower() in LITTER or any(part[0] == "." or part == "__MACOSX" for part in parts)


def is_image_name(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def find_layout(read_paths: Callable[[], Iterable[tuple[str, ...]]]) -> Layout:
    """The layout of the paths, which are read up to twice, so that nobody needs to keep them all."""
    roots = {
        parts[:depth]
        for parts in read_paths()
        for depth, part in enumerate(parts[:-1])
        if SPLITS.get(part.lower()) == "train"
    }
    if roots:
        return Layout(min(roots, key=lambda root: (len(root), root)), has_splits=True)
    return Layout(_find_common_folder(read_paths()), has_splits=False)


def _find_common_folder(paths: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    common: tuple[str, ...] | None = None
    for parts in paths:
        folders = parts[:-2] if len(parts) > 2 else ()
        common = folders if common is None else _share(common, folders)
    return common or ()


def _share(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    if other[: len(one)] == one:
        return one
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    return one[:same]
