"""Put decoded images into their splits, cut those that are missing, and say what is odd about the result."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from job.settings import TrainingError

from images.copies import list_some, report_contradictions, report_leaks
from images.decoding.skipping import Skipped, report_skipped
from images.layout import Sample
from images.reading.labels import Wishes, read_part
from images.splits import Cut, plan_cut
from images.streaming import ImageStream


class Rows(Protocol):
    """Gives the images of row numbers (n,): uint8 of shape (n, 3, size, size)."""

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class Split:
    """The images of one split: rows (n,) of a cache (all, 3, size, size), class numbers (n,), hashes and names (n,).

    `groups` says which images are alike, or belong together by the recipe: they must not judge one another. The cache
    is shared by the splits, so that cutting copies nothing.
    """

    cache: Rows
    rows: torch.Tensor
    labels: torch.Tensor
    hashes: list[str]
    names: list[str]
    groups: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, chosen: torch.Tensor) -> torch.Tensor:
        """Copy the chosen images out of the cache: uint8 of shape (n, 3, size, size)."""
        return self.cache[self.rows[chosen]]

    def lessons(self, chosen: torch.Tensor) -> torch.Tensor:
        """Copy the chosen images for a batch that only trains: a stream may decode them faster, a little different."""
        cache = self.cache
        return cache.drafts(self.rows[chosen]) if isinstance(cache, ImageStream) else cache[self.rows[chosen]]


def join_splits(one: Split, other: Split) -> Split:
    """Return the images of two splits of a dataset, which share its cache."""
    rows, labels = torch.cat([one.rows, other.rows]), torch.cat([one.labels, other.labels])
    return Split(one.cache, rows, labels, one.hashes + other.hashes, one.names + other.names, one.groups + other.groups)


@dataclass(frozen=True)
class Dataset:
    """The three splits, the classes in the order of their numbers, warnings for the user, and the skipped images.

    `photographs` says whether the typical image is fairly large and in colour, so that its mirror image is another
    example of its class; that does not hold for digits, letters and scans.
    """

    classes: list[str]
    train: Split
    valid: Split
    test: Split
    warnings: list[str]
    photographs: bool
    skipped: list[Skipped]
    cut: Cut | None = None

    def __len__(self) -> int:
        return len(self.train) + len(self.valid) + len(self.test)


@dataclass(frozen=True)
class Decoded:
    """What is kept of an image besides its pixels."""

    sample: Sample
    key: bytes
    hash: str
    small: bool
    grey: bool
    twelve_bits: bool = False


def check_classes(samples: Sequence[Sample]) -> None:
    """Refuse a dataset from which nothing can be learned."""
    classes = {sample.label for sample in samples if sample.split == "train"}
    if len(classes) < 2:
        found = ", ".join(sorted(classes)) or "none"
        raise TrainingError(f"at least two class folders with images are needed in train, and it has: {found}")
    strange = sorted({sample.label for sample in samples} - classes)
    if strange:
        raise TrainingError(f"classes with no image in train cannot be learnt: {', '.join(strange)}; add some")


def assemble(decoded: Sequence[Decoded | Skipped], cache: Rows, wishes: Wishes) -> Dataset:
    """Put the decoded images into their splits and cut the missing ones from train."""
    skipped = [one for one in decoded if isinstance(one, Skipped)]
    warnings = report_skipped(skipped, len(decoded))
    kept = [(index, one) for index, one in enumerate(decoded) if isinstance(one, Decoded)]
    check_classes([one.sample for _, one in kept])
    classes = sorted({one.sample.label for _, one in kept})
    sides, planned = choose_sides([one for _, one in kept], wishes.group)
    members = {side: [pair for pair, own in zip(kept, sides, strict=True) if own == side] for side in set(sides)}
    check_splits(members)
    splits = {side: take(pairs, cache, classes, wishes.group) for side, pairs in members.items()}
    images = [one for _, one in kept]
    warnings += [*(planned.warnings if planned else []), *report_oddities(images), *report_leaks(splits)]
    warnings += report_groups([one.sample.name for one in images], sides, wishes.group)
    photographs = are_photographs(kept)
    return Dataset(classes, splits["train"], splits["valid"], splits["test"], warnings, photographs, skipped, planned)


def report_oddities(images: Sequence[Decoded]) -> list[str]:
    """Warn of images with two labels and of those whose 12 bits were scaled."""
    twelve = sum(one.twelve_bits for one in images)
    scaled = f"{twelve} images hold 12 bits in 16; they were scaled by that range"
    names = [one.sample.name for one in images]
    twice = report_contradictions([one.hash for one in images], [one.sample.label for one in images], names)
    return [*twice, *([scaled] if twelve else [])]


def choose_sides(images: Sequence[Decoded], group: str | None) -> tuple[list[str], Cut | None]:
    """Return the split of each image, and the cut of the missing splits if there are any.

    group: the recipe's pattern; images whose names have the same part there are one group.
    """
    sides = [one.sample.split for one in images]
    missing = [split for split in ("valid", "test") if split not in sides]
    if not missing:
        return sides, None
    train = [index for index, side in enumerate(sides) if side == "train"]
    keys = [group_key(group, images[index].sample.name) or images[index].key for index in train]
    planned = plan_cut(keys, [images[index].sample.label for index in train], missing)
    for index, side in zip(train, planned.sides, strict=True):
        sides[index] = side
    return sides, planned


def group_key(pattern: str | None, name: str) -> bytes | None:
    """Return the key of an image's group by the recipe's pattern, or None if its name has none."""
    part = read_part(pattern, name) if pattern else None
    return b"group " + part.encode() if part else None


def report_groups(names: Sequence[str], sides: Sequence[str], pattern: str | None) -> list[str]:
    """Warn of groups of the recipe that the dataset's own splits divide, and of a pattern that fits no name."""
    if not pattern:
        return []
    found: dict[bytes, set[str]] = defaultdict(set)
    for name, side in zip(names, sides, strict=True):
        if key := group_key(pattern, name):
            found[key].add(side)
    divided = [key.removeprefix(b"group ").decode() for key, own in found.items() if len(own) > 1]
    if not found:
        return [f"the recipe's group {pattern!r} fits no file name, so no images were kept together by it"]
    count = "1 group is" if len(divided) == 1 else f"{len(divided)} groups are"
    return [f"{count} in several splits: {list_some(divided)}"] if divided else []


def check_splits(members: dict[str, list[tuple[int, Decoded]]]) -> None:
    absent = [split for split in ("train", "valid", "test") if not members.get(split)]
    if absent:
        raise TrainingError(f"too few different images to fill the split {' and '.join(absent)}; add more images")


def take(pairs: Sequence[tuple[int, Decoded]], cache: Rows, classes: Sequence[str], group: str | None = None) -> Split:
    """Gather one split."""
    numbers = {name: number for number, name in enumerate(classes)}
    rows = torch.tensor([index for index, _ in pairs])
    labels = torch.tensor([numbers[one.sample.label] for _, one in pairs])
    groups = [group_key(group, one.sample.name) or one.key for _, one in pairs]
    return Split(cache, rows, labels, [one.hash for _, one in pairs], [one.sample.name for _, one in pairs], groups)


def are_photographs(kept: Sequence[tuple[int, Decoded]]) -> bool:
    plain = Counter(one.small or one.grey for _, one in kept)
    return plain[False] > plain[True]
