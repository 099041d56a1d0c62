"""Decode images on demand, for a dataset whose decoded cache would not fit in memory.

A stream is indexed like a cache, and gives the same pixels; `drafts` gives those of batches that only train, for which
the decoder may reduce a large JPEG on the way. The settings may change while a stream lives without changing what it
returns: `workers` decode in parallel (Pillow releases Python's lock), and with `keeping` each decoded image is kept, so
that its next use costs no decoding.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class Load(Protocol):
    """Make the pixels of a row. glance: the least side to which a JPEG may be reduced; 0 forbids it."""

    def __call__(self, row: int, glance: int = 0) -> Pixels: ...


class ImageStream:
    """The rows of a virtual cache (images, 3, size, size): load makes a row's pixels.

    reserve allocates pixels of a given shape when the first image is to be kept.
    """

    def __init__(self, load: Load, images: int, size: int, reserve: Callable[[tuple[int, ...]], Pixels]) -> None:
        self.load, self.shape, self.reserve = load, (images, 3, size, size), reserve
        self.workers, self.keeping = 1, False
        self.kept: dict[int, tuple[Pixels, Any]] = {}
        self.decoded = 0

    @property
    def bytes(self) -> int:
        """Return the bytes that keeping all images would take."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the images of rows (n,), decoded now or kept: uint8 of shape (n, 3, size, size)."""
        return self.read(rows, 0)

    def drafts(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the same for a batch that only trains, from JPEGs that were reduced while they were decoded."""
        return self.read(rows, self.shape[-1])

    def read(self, rows: torch.Tensor, glance: int) -> torch.Tensor:
        if self.keeping and glance not in self.kept:
            self.kept[glance] = self.reserve(self.shape), np.zeros(self.shape[0], dtype=bool)
        batch = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        places = list(zip(batch, rows.tolist(), strict=True))
        if self.workers == 1:
            for place, row in places:
                self.fill(place, row, glance)
        else:
            with ThreadPoolExecutor(self.workers) as pool:
                list(pool.map(lambda pair: self.fill(*pair, glance), places))
        return torch.from_numpy(batch)

    def fill(self, place: Pixels, row: int, glance: int) -> None:
        """Write the pixels of one row into its place in a batch."""
        kept, is_kept = self.kept[glance] if self.keeping else (None, None)
        if kept is not None and is_kept is not None and is_kept[row]:
            place[:] = kept[row]
            return
        place[:] = self.load(row, glance)
        self.decoded += 1
        if kept is not None and is_kept is not None:
            kept[row] = place
            is_kept[row] = True
