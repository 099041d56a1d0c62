"""Describe what an image looks like by a few bits, so that its copies in other formats and sizes have the same."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image

# The perceptual key compares neighbouring cells of a grey thumbnail with this many columns and rows. Fewer would give
# too many different images the same key; with more, a recompression would change the key.
COLUMNS, ROWS = 6, 5
# A step smaller than this share of the thumbnail's contrast, or than this many grey levels, is flat: noise must not
# decide.
FLAT, FLAT_LEVELS = 0.45, 2.0
# A look has a bit for each step between neighbouring cells of a larger thumbnail. Of an image that is mostly flat, such
# as a thing on a white ground, most of them would say nothing.
LOOK_COLUMNS, LOOK_ROWS, MOSTLY = 13, 12, 0.5
LOOK_TEXT = 72  # hexadecimal digits


def perceptual_key(image: Image.Image) -> bytes:
    """Describe an RGB image by the direction of the brightness steps of a tiny thumbnail (a difference hash)."""
    thumbnail = image.convert("L").resize((COLUMNS, ROWS), Image.Resampling.BILINEAR)
    grey = np.asarray(thumbnail, dtype=np.float32)
    steps, flat = np.diff(grey, axis=1), max(FLAT_LEVELS, FLAT * float(grey.std()))
    if (np.abs(steps) <= flat).all():
        # A blank or even texture has nothing to compare, and one key for all of them would put them on one side.
        return hashlib.blake2b(image.tobytes(), digest_size=8).digest()
    return np.packbits(np.concatenate([steps > flat, steps < -flat], axis=None)).tobytes()


def describe_look(image: Image.Image) -> str:
    """Describe what an RGB image looks like, so that near copies differ in few bits: hexadecimal digits, or nothing."""
    thumbnail = image.convert("L").resize((LOOK_COLUMNS, LOOK_ROWS), Image.Resampling.BILINEAR)
    grey = np.asarray(thumbnail, dtype=np.int16)
    steps = np.concatenate([np.diff(grey, axis=1).ravel(), np.diff(grey, axis=0).ravel()])
    return "" if (steps == 0).mean() > MOSTLY else np.packbits(steps > 0).tobytes().hex()
