"""Cut a missing split from train by a keyed hash of what each image looks like.

Images with one key are a group and fall on one side: copies of one image in another format, size or compression.
Otherwise a new model would be tested on images that the live one was trained on. A group's hash decides alone, but for
what a class needs: if it has three groups or more and none below the threshold of test, its lowest hash goes to test,
and the next to valid likewise. So a class's train images stay in train in every later version of the dataset; what
comes back to train are at most these two groups. Two events alone bring images of train to test or valid: a class gets
its third group, or had been kept whole in train because all its groups were below the thresholds.

The price: the shares are only roughly 15 %, and a copy edited enough to change its key may cross over. Of 400 crops of
photographs, these crossed: 3 % after JPEG at quality 90, 6 % at 60, 3 % at half the size, 8 % when brightened by 5 %.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from images.decoding.keys import perceptual_key as perceptual_key

SHARE = 0.15
# With fewer images, uneven shares are to be expected.
ENOUGH = 100
KEY = b"whippet split 1"
ENOUGH_GROUPS = 3


def position(key: bytes) -> float:
    """Place a perceptual key in [0, 1), evenly and permanently, by a keyed hash."""
    digest = hashlib.blake2b(key, key=KEY, digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def choose_side(key: bytes, missing: Sequence[str]) -> str:
    """Choose the side of an image of train: one of the missing splits (valid, test), or train."""
    place = position(key)
    if place < SHARE:
        return "valid" if "valid" in missing else "train"
    if place < 2 * SHARE:
        return "test" if "test" in missing else "train"
    return "train"


@dataclass
class Cut:
    """The side of each image, and what is said of it: groups that a class needed, classes kept whole, or too small."""

    sides: list[str]
    moved: dict[str, dict[str, str]] = field(default_factory=dict)
    kept_whole: list[str] = field(default_factory=list)
    just_enough: list[str] = field(default_factory=list)
    lacking: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def describe(self) -> dict[str, object]:
        """Build the manifest's `cut`: the classes whose images may be on another side than in an earlier version."""
        return {
            "kept_whole": self.kept_whole,
            "three_groups": self.just_enough,
            "moved": {label: dict(sorted(sides.items())) for label, sides in sorted(self.moved.items())},
            "lacking": self.lacking,
        }


def cut(keys: Sequence[bytes], labels: Sequence[str], missing: Sequence[str]) -> tuple[list[str], list[str]]:
    """Cut the missing splits from the images of train; return the side of each image, and warnings."""
    planned = plan_cut(keys, labels, missing)
    return planned.sides, planned.warnings


def plan_cut(keys: Sequence[bytes], labels: Sequence[str], missing: Sequence[str]) -> Cut:
    """Cut the missing splits from the images of train.

    Two exceptions keep tiny datasets trainable, each with a warning: a class that would have no image left in train
    stays there whole, and a split that would be empty takes the images of the key nearest to it.
    """
    groups = group_classes(keys, labels)
    shared = find_shared(groups)
    moved = {label: choose_moves(own, shared, missing) for label, own in groups.items()}
    side_of = {key: choose_side(key, missing) for key in set(keys)}
    for moves in moved.values():
        side_of |= moves
    sides = [side_of[key] for key in keys]
    lost = find_lost(sides, labels)
    planned = Cut(sides, kept_whole=lost, warnings=[*keep_classes(sides, labels)])
    planned.moved = {
        label: {key.hex(): side for key, side in moves.items()}
        for label, moves in moved.items()
        if moves and label not in lost
    }
    planned.just_enough = sorted(label for label, own in groups.items() if len(own) == ENOUGH_GROUPS)
    planned.warnings += [*fill_empty(sides, keys, labels, missing), *report_shares(sides, missing)]
    planned.lacking = find_lacking(sides, labels, missing)
    planned.warnings += report_lacking(planned)
    return planned


def group_classes(keys: Sequence[bytes], labels: Sequence[str]) -> dict[str, list[bytes]]:
    """Return the keys of each class in the order of their hashes."""
    found: dict[str, set[bytes]] = defaultdict(set)
    for key, label in zip(keys, labels, strict=True):
        found[label].add(key)
    return {label: sorted(own, key=position) for label, own in sorted(found.items())}


def find_shared(groups: dict[str, list[bytes]]) -> set[bytes]:
    """Return the keys that several classes have: what one class needs must not move another's images."""
    seen: set[bytes] = set()
    shared: set[bytes] = set()
    for own in groups.values():
        shared |= seen.intersection(own)
        seen.update(own)
    return shared


def choose_moves(groups: Sequence[bytes], shared: set[bytes], missing: Sequence[str]) -> dict[bytes, str]:
    """Return the groups that a class of three or more sends to test and valid because it has none there."""
    sides = {key: choose_side(key, missing) for key in groups}
    own = {side: [key for key in groups if sides[key] == side] for side in ("train", "valid", "test")}
    if len(groups) < ENOUGH_GROUPS or not own["train"]:
        return {}
    moves: dict[bytes, str] = {}
    free = [key for key in groups if key not in shared]
    if "test" in missing and not own["test"] and free:
        moves[free[0]] = "test"
    if "valid" in missing and not [key for key in own["valid"] if key not in moves]:
        spare = own["test"] if len(own["test"]) > 1 else own["train"]
        chosen = next((key for key in spare if key not in moves and key not in shared), None)
        if chosen is not None:
            moves[chosen] = "valid"
    return moves if any(key not in moves for key in own["train"]) else {}


def find_lacking(sides: Sequence[str], labels: Sequence[str], missing: Sequence[str]) -> dict[str, list[str]]:
    """Return, for each split that was cut, the classes that have no image there."""
    there = {(side, label) for side, label in zip(sides, labels, strict=True)}
    return {
        split: lacking
        for split in missing
        if (lacking := sorted(label for label in set(labels) if (split, label) not in there))
    }


def report_lacking(planned: Cut) -> list[str]:
    """Warn of classes without images in a split that was cut, and of those that have just enough."""
    warnings = [
        f"{count(labels, 'class has', 'classes have')} no image in {split} and cannot be judged there, for want of "
        f"{ENOUGH_GROUPS} different images: {name_some(labels)}"
        for split, labels in planned.lacking.items()
    ]
    if planned.just_enough:
        warnings.append(
            f"{count(planned.just_enough, 'class has', 'classes have')} just {ENOUGH_GROUPS} different images: if one "
            "was added, images that a former model was trained on may be in test or valid now: "
            f"{name_some(planned.just_enough)}"
        )
    return warnings


def count(labels: Sequence[str], one: str, many: str) -> str:
    return f"{len(labels)} {one if len(labels) == 1 else many}"


def name_some(labels: Sequence[str]) -> str:
    return ", ".join(map(repr, labels[:3])) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")


def report_shares(sides: Sequence[str], missing: Sequence[str]) -> list[str]:
    """Warn if many similar images made the cut uneven."""
    shares = {split: sides.count(split) / len(sides) for split in missing}
    return [
        f"{split} was cut to {share:.0%} of train instead of {SHARE:.0%}, since many images look alike"
        for split, share in shares.items()
        if not SHARE / 3 <= share <= 2 * SHARE and len(sides) >= ENOUGH
    ]


def find_lost(sides: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Return the classes that lost all their images to the cut."""
    return sorted(set(labels) - {label for label, side in zip(labels, sides, strict=True) if side == "train"})


def keep_classes(sides: list[str], labels: Sequence[str]) -> list[str]:
    """Return a class that lost all its images to the cut to train; change the sides in place."""
    lost = find_lost(sides, labels)
    for index, label in enumerate(labels):
        if label in lost:
            sides[index] = "train"
    return [f"class {label!r} is too small to be split; all its images stay in train" for label in lost]


def fill_empty(sides: list[str], keys: Sequence[bytes], labels: Sequence[str], missing: Sequence[str]) -> list[str]:
    """Give a split that the cut left empty the images of one key; change the sides in place."""
    warnings = []
    for split in missing:
        spare = [key for key in movable(sides, keys, labels) if split not in sides]
        if spare:
            start = SHARE * (split == "test")
            chosen = min(spare, key=lambda key: abs(position(key) - start))
            for index, key in enumerate(keys):
                if key == chosen and sides[index] == "train":
                    sides[index] = split
            warnings.append(f"the dataset is too small for an even cut: {split} holds {sides.count(split)} images")
    return warnings


def movable(sides: Sequence[str], keys: Sequence[bytes], labels: Sequence[str]) -> list[bytes]:
    """List the keys of train whose images can leave without emptying a class of train."""
    keys_of = defaultdict(set)
    for side, key, label in zip(sides, keys, labels, strict=True):
        if side == "train":
            keys_of[label].add(key)
    needed = {key for held in keys_of.values() if len(held) == 1 for key in held}
    return sorted({key for held in keys_of.values() for key in held} - needed)
