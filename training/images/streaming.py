"""Decode images on demand, for a dataset whose decoded cache would not fit in memory.

A stream is indexed like a cache. Its settings may change while it lives without changing what it returns: `workers`
decode in parallel (Pillow releases Python's lock), and with `keeping` each decoded image is kept, so that its next use
costs no decoding.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class ImageStream:
    """The rows of a virtual cache (images, 3, size, size): load makes a row's pixels.

    reserve allocates pixels of a given shape when the first image is to be kept.
    """

    def __init__(
        self, load: Callable[[int], Pixels], images: int, size: int, reserve: Callable[[tuple[int, ...]], Pixels]
    ) -> None:
        self.load, self.shape, self.reserve = load, (images, 3, size, size), reserve
        self.workers, self.keeping = 1, False
        self.kept: Pixels | None = None
        self.is_kept = np.zeros(images, dtype=bool)
        self.decoded = 0

    @property
    def bytes(self) -> int:
        """Return the bytes that keeping all images would take."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the images of rows (n,), decoded now or kept: uint8 of shape (n, 3, size, size)."""
        if self.keeping and self.kept is None:
            self.kept = self.reserve(self.shape)
        batch = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        places = list(zip(batch, rows.tolist(), strict=True))
        if self.workers == 1:
            for place, row in places:
                self.fill(place, row)
        else:
            with ThreadPoolExecutor(self.workers) as pool:
                list(pool.map(lambda pair: self.fill(*pair), places))
        return torch.from_numpy(batch)

    def fill(self, place: Pixels, row: int) -> None:
        """Write the pixels of one row into its place in a batch."""
        kept = self.kept if self.keeping else None
        if kept is not None and self.is_kept[row]:
            place[:] = kept[row]
            return
        place[:] = self.load(row)
        self.decoded += 1
        if kept is not None:
            kept[row] = place
            self.is_kept[row] = True
