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


def perceptual_key(image: Image.Image) -> bytes:
    """Describe an RGB image by the direction of the brightness steps of a tiny thumbnail (a difference hash)."""
    thumbnail = image.convert("L").resize((COLUMNS, ROWS), Image.Resampling.BILINEAR)
    grey = np.asarray(thumbnail, dtype=np.float32)
    steps, flat = np.diff(grey, axis=1), max(FLAT_LEVELS, FLAT * float(grey.std()))
    if (np.abs(steps) <= flat).all():
        # A blank or even texture has nothing to compare, and one key for all of them would put them on one side.
        return hashlib.blake2b(image.tobytes(), digest_size=8).digest()
    return np.packbits(np.concatenate([steps > flat, steps < -flat], axis=None)).tobytes()
