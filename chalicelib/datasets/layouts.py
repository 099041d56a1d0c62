"""Locate the splits and classes of a dataset from names alone. Pure.

Ignored: folders, anything below `__MACOSX/` or whose name begins with a dot, `Thumbs.db`, `desktop.ini`. The root is
the shallowest folder that contains a train folder. Without one, it is the deepest folder common to all images whose
children are class folders, and every image belongs to train. The training program follows the same rule, and a contract
test compares the two.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import takewhile

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
    """The folder that holds the splits, or the class folders if there are no splits."""

    root: tuple[str, ...]
    has_splits: bool

    @property
    def prefix(self) -> str:
        return "".join(f"{part}/" for part in self.root)

    def place(self, folder: tuple[str, ...]) -> tuple[str, str] | None:
        """Return the split and the class of a folder's files, or None outside the class folders."""
        depth = len(self.root)
        if folder[:depth] != self.root:
            return None
        below = folder[depth:]
        if not self.has_splits:
            return ("train", below[0]) if below else None
        split = SPLITS.get(below[0].lower()) if len(below) > 1 else None
        return (split, below[1]) if split else None


def split_folder(folder: str) -> tuple[str, ...]:
    """Return the parts of a folder's name."""
    return tuple([part for part in folder.split("/") if part and part != "."])


def is_litter_folder(folder: tuple[str, ...]) -> bool:
    """Return whether an operating system or a program keeps its own files there."""
    return any(part[0] == "." or part == "__MACOSX" for part in folder)


def is_litter_file(file: str) -> bool:
    """Return whether an operating system left this file there."""
    return file.startswith(".") or file.lower() in LITTER


def is_image_name(name: str) -> bool:
    return name.endswith(IMAGE_SUFFIXES) or name.lower().endswith(IMAGE_SUFFIXES)


def find_layout(folders: Collection[tuple[str, ...]]) -> Layout:
    """Return the layout of a dataset whose images lie in these folders."""
    roots = {
        folder[:depth] for folder in folders for depth, part in enumerate(folder) if SPLITS.get(part.lower()) == "train"
    }
    if roots:
        return Layout(min(roots, key=lambda root: (len(root), root)), has_splits=True)
    return Layout(_find_common_folder([folder[:-1] for folder in folders]), has_splits=False)


def _find_common_folder(folders: Collection[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the deepest folder that holds them all: what the first and the last of them in order have in common."""
    if not folders:
        return ()
    pairs = zip(min(folders), max(folders), strict=False)
    return tuple(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
