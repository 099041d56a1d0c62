"""Cut a missing split from train by a keyed hash of what each image looks like, and of nothing else.

An image's side does not depend on the other images, so it stays the same in every later version of the dataset, and
copies of one image (another format, size or compression) fall on the same side. Otherwise a new model would be tested
on images that the live one was trained on. The price: the shares are only roughly 15 %, and a copy edited enough to
change its key may cross over. Of 400 crops of photographs, these crossed: 3 % after JPEG at quality 90, 6 % at 60, 3 %
at half the size, 8 % when brightened by 5 %.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from PIL import Image

SHARE = 0.15
# With fewer images, uneven shares are to be expected.
ENOUGH = 100
KEY = b"whippet split 1"
# The perceptual key compares neighbouring cells of a grey thumbnail with this many columns and rows. Fewer would give
# too many different images the same key; with more, a recompression would change the key.
COLUMNS, ROWS = 6, 5
# A step smaller than this share of the thumbnail's contrast, or than this many grey levels, is flat: noise must not
# decide.
FLAT, FLAT_LEVELS = 0.45, 2.0


def perceptual_key(image: Image.Image) -> bytes:
    """Describe an RGB image by the direction of the brightness steps of a tiny thumbnail (a difference hash)."""
    thumbnail = image.convert("L").resize((COLUMNS, ROWS), Image.Resampling.BILINEAR)
    grey = np.asarray(thumbnail, dtype=np.float32)
    steps, flat = np.diff(grey, axis=1), max(FLAT_LEVELS, FLAT * float(grey.std()))
    if (np.abs(steps) <= flat).all():
        # A blank or even texture has nothing to compare, and one key for all of them would put them on one side.
        return hashlib.blake2b(image.tobytes(), digest_size=8).digest()
    return np.packbits(np.concatenate([steps > flat, steps < -flat], axis=None)).tobytes()


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


def cut(keys: Sequence[bytes], labels: Sequence[str], missing: Sequence[str]) -> tuple[list[str], list[str]]:
    """Cut the missing splits from the images of train; return the side of each image, and warnings.

    Two exceptions keep tiny datasets trainable, each with a warning: a class that would have no image left in train
    stays there whole, and a split that would be empty takes the images of the key nearest to it.
    """
    sides = [choose_side(key, missing) for key in keys]
    warnings = [*keep_classes(sides, labels), *fill_empty(sides, keys, labels, missing)]
    return sides, [*warnings, *report_shares(sides, missing)]


def report_shares(sides: Sequence[str], missing: Sequence[str]) -> list[str]:
    """Warn if many similar images made the cut uneven."""
    shares = {split: sides.count(split) / len(sides) for split in missing}
    return [
        f"{split} was cut to {share:.0%} of train instead of {SHARE:.0%}, since many images look alike"
        for split, share in shares.items()
        if not SHARE / 3 <= share <= 2 * SHARE and len(sides) >= ENOUGH
    ]


def keep_classes(sides: list[str], labels: Sequence[str]) -> list[str]:
    """Return a class that lost all its images to the cut to train; change the sides in place."""
    lost = sorted(set(labels) - {label for label, side in zip(labels, sides, strict=True) if side == "train"})
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
