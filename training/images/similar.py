"""Find images of test and validation that nearly equal one of train: copies, crops, mirror images, turns, bursts.

A descriptor is a small grey picture of an image. Each judged image's descriptor is varied (mirrored, zoomed, shifted,
turned a little) and compared with train's by correlation. The threshold rises with what images of different classes
reach. On drawn scenes (tests/training/images/test_similar.py) it finds all but a few of each kind, and flags no other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import affine_grid, grid_sample, normalize

from images.assembly import Dataset, Split
from images.copies import list_some
from images.decoding import keys
from images.decoding.keys import perceptual_key
from images.streaming import ImageStream

SIDE, EDGE = 32, 4  # of a descriptor in pixels, and what of it is not compared: turned images have no corners
THRESHOLD, MARGIN = 0.95, 0.6
CHANCE = 0.99  # the share of judged images whose best likeness of another class lies below the threshold's floor
ZOOMS, TURNS, SHIFTS = (0.95, 1.0, 1.05), (-5.0, 0.0, 5.0), (-0.05, 0.0, 0.05)
MOST_JUDGED, MOST_KNOWN, STEP = 400, 10_000, 50  # 10 s of a processor at most

Array = np.ndarray[Any, np.dtype[np.uint8]]


def describe_look(pixels: Array) -> Array:
    """Return the descriptor of a square image (3, s, s): grey levels (SIDE, SIDE)."""
    grey = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def make_variants() -> torch.Tensor:
    """Return the affine matrices (variants, 2, 3) by which a copy may differ from its original."""
    turns = [(turn, 0.0, 0.0) for turn in TURNS]
    shifts = [(0.0, right, down) for right in SHIFTS for down in SHIFTS if right or down]
    rows = []
    for mirror, zoom, (turn, right, down) in product((1.0, -1.0), ZOOMS, [*turns, *shifts]):
        cos, sin = zoom * math.cos(math.radians(turn)), zoom * math.sin(math.radians(turn))
        rows.append([[mirror * cos, -sin, right], [mirror * sin, cos, down]])
    return torch.tensor(rows)


def flatten_looks(looks: torch.Tensor) -> torch.Tensor:
    """Return descriptors (n, SIDE, SIDE) as vectors of length one whose products are correlations."""
    inner = looks[:, EDGE:-EDGE, EDGE:-EDGE].flatten(1).float()
    return normalize(inner - inner.mean(dim=1, keepdim=True), dim=1)


def correlate(judged: torch.Tensor, known: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield, for a few judged images at a time, the best correlation of any variant with each known image (few, n)."""
    matrices, vectors = make_variants(), flatten_looks(known)
    count = len(matrices)
    # The images are the channels of one picture, so that each variant's grid is made once for all of them.
    grid = affine_grid(matrices, [count, 1, SIDE, SIDE], align_corners=False)
    for part in judged.split(STEP):
        wide = part.float().expand(count, -1, -1, -1)
        varied = grid_sample(wide, grid, padding_mode="border", align_corners=False).transpose(0, 1).flatten(0, 1)
        yield (flatten_looks(varied) @ vectors.T).view(len(part), count, -1).amax(dim=1)


def find_near_copies(
    judged: torch.Tensor, judged_labels: torch.Tensor, known: torch.Tensor, known_labels: torch.Tensor
) -> list[tuple[int, int]]:
    """Return (judged image, known image) for each judged image that nearly equals a known one.

    judged, known: descriptors (n, SIDE, SIDE). What images of different classes reach is chance, and the threshold lies
    well above it.
    """
    best, places, chance = [], [], []
    for found, labels in zip(correlate(judged, known), judged_labels.split(STEP), strict=True):
        value, place = found.max(dim=1)
        best.append(value)
        places.append(place)
        chance.append(found.masked_fill(labels[:, None] == known_labels[None], 0.0).amax(dim=1))
    floor = float(torch.cat(chance).quantile(CHANCE))
    threshold = max(THRESHOLD, floor + MARGIN * (1 - floor))
    flagged = torch.nonzero(torch.cat(best) >= threshold).flatten().tolist()
    return [(index, int(torch.cat(places)[index])) for index in flagged]


def report_near_copies(data: Dataset) -> list[str]:
    """Warn of validation and test images that nearly equal one of train. Samples of large splits are looked at.

    Only photographs are compared: digits and scans are alike without being copies.
    """
    if not data.photographs:
        return []
    warnings, chosen = [], spread(len(data.train), MOST_KNOWN)
    looks = describe_looks(data.train, chosen)
    for split, word, judge in ((data.valid, "validation", "validation"), (data.test, "test", "the test")):
        own = spread(len(split), MOST_JUDGED)
        pairs = find_near_copies(describe_looks(split, own), split.labels[own], looks, data.train.labels[chosen])
        named = [(int(own[one]), int(chosen[other])) for one, other in pairs]
        named = [(one, other) for one, other in named if split.hashes[one] != data.train.hashes[other]]
        if named:
            text = f"{len(named)} of {len(own)} {word} images that were compared nearly equal one of train (a copy, a "
            text += f"crop, a mirror image, a burst), so {judge} flatters: "
            warnings.append(
                text + list_some([f"{split.names[one]} = {data.train.names[other]}" for one, other in named])
            )
    return warnings


def spread(count: int, most: int) -> torch.Tensor:
    """Return at most so many numbers below count, evenly spread."""
    few = min(count, most)
    return torch.arange(few) * count // max(few, 1)


def describe_looks(split: Split, chosen: torch.Tensor) -> torch.Tensor:
    """Return the descriptors of some images of a split."""
    parts = [split.images(part).numpy() for part in chosen.split(STEP)]
    return torch.from_numpy(np.stack([describe_look(pixels) for part in parts for pixels in part]))


def list_keys(split: Split, threads: int, *, photographs: bool) -> list[str]:
    """Return the perceptual key of each image's square, in hexadecimal digits; nothing where images are not kept.

    It is of the square, so that it can be compared with those of other versions, whatever their splits were cut by. Of
    photographs it is followed by a dash and the look: digits and scans are alike without being copies.
    """
    if isinstance(split.cache, ImageStream):
        return []
    describe = partial(describe_key, looks=photographs)
    with ThreadPoolExecutor(threads) as pool:
        parts = (split.images(part).numpy() for part in torch.arange(len(split)).split(STEP))
        return [key for pixels in parts for key in pool.map(describe, pixels)]


def describe_key(pixels: Array, *, looks: bool) -> str:
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    key = perceptual_key(image).hex()
    return f"{key}-{keys.describe_look(image)}" if looks else key
