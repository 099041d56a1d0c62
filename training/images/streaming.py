"""Images decoded when they are asked for: for a dataset whose decoded cache would not fit in memory.

A stream is indexed as a cache is. How it works may be changed while it lives, and what it gives does not depend on it:
`workers` decode at a time (Pillow works outside of Python's lock), and with `keeping` each image that was decoded is
kept, so that its next use costs no decoding.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class ImageStream:
    """Rows of a cache (images, 3, size, size) that is not there: load makes a row's pixels.

    reserve makes room for pixels of a shape, when images are first to be kept.
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
        """What keeping all images would take."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
        """Decode the images of rows (n,), or find them kept: uint8 of shape (n, 3, size, size)."""
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
        """Put the pixels of one row into its place in a batch."""
        kept = self.kept if self.keeping else None
        if kept is not None and self.is_kept[row]:
            place[:] = kept[row]
            return
        place[:] = self.load(row)
        self.decoded += 1
        if kept is not None:
            kept[row] = place
            self.is_kept[row] = True
