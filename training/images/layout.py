"""Tell from a zip's names which files are images of which split and class; nothing is read.

The control plane's pre-flight follows the same rule, and a test compares the two on the same zips.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "test": "test",
    "testing": "test",
}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
LITTER = {"thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Sample:
    """One image of the archive: its entry's name, its split (train, valid, test) and its class."""

    name: str
    split: str
    label: str


def find_samples(names: Iterable[str]) -> list[Sample]:
    """List the images with their splits and classes, in the order of their names.

    The root is the shallowest folder that holds a train folder. Without one, it is the deepest folder common to all
    images that has class folders below it, and every image belongs to train.
    """
    paths = sorted((name, PurePosixPath(name).parts) for name in names if is_image(name))
    root = find_root([parts for _, parts in paths])
    if root is None:
        depth = common_depth([parts for _, parts in paths])
        return [Sample(name, "train", parts[depth]) for name, parts in paths if len(parts) > depth + 1]
    depth = len(root)
    return [
        Sample(name, SPLITS[parts[depth].lower()], parts[depth + 1])
        for name, parts in paths
        if parts[:depth] == root and len(parts) > depth + 2 and parts[depth].lower() in SPLITS
    ]


def is_image(name: str) -> bool:
    """Return whether an entry counts as an image: no folder, no litter of an operating system, a known suffix."""
    path = PurePosixPath(name)
    if name.endswith("/") or path.suffix.lower() not in IMAGE_SUFFIXES or path.name.lower() in LITTER:
        return False
    return not any(part == "__MACOSX" or part.startswith(".") for part in path.parts)


def find_root(paths: list[tuple[str, ...]]) -> tuple[str, ...] | None:
    """Return the shallowest folder that contains a train folder; of several, the first by name."""
    roots = {
        parts[:depth] for parts in paths for depth, part in enumerate(parts[:-1]) if SPLITS.get(part.lower()) == "train"
    }
    return min(roots, key=lambda root: (len(root), root), default=None)


def common_depth(paths: list[tuple[str, ...]]) -> int:
    """Count the folders that all images share and that still leave a class folder below."""
    depth = 0
    while paths and all(len(parts) > depth + 2 for parts in paths) and len({parts[depth] for parts in paths}) == 1:
        depth += 1
    return depth
