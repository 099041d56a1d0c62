"""Keep decoded pixels for the other jobs of a machine, and map them into memory only when someone looks at them.

A piece of the images has two entries in the store: what was told of its images, which every job reads, and their
pixels, which a job with kept features never needs. Both are named by everything that their bits depend on.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from caching.sharing import PATIENCE, obtain, share
from caching.store import Array, Store
from PIL import features

from images.decoding.rows import Order, Pixels, Seen, Source, decode_into, pack, unpack
from images.decoding.skipping import Skipped

FORMAT = 1
LEAST, MOST_PIECES = 32, 256  # images in a piece, and pieces of a dataset
DECODERS = ("libjpeg_turbo", "jpg", "zlib", "libtiff", "webp", "avif", "jpg_2000")


class Kept:
    """The decoded images of an order, in a store. `there` says of how many pieces something was told before."""

    def __init__(self, order: Order, source: Source, store: Store) -> None:
        self.order, self.source, self.store = order, source, store
        self.pieces = cut(len(order.names))
        self.keys = name_pieces(order, self.pieces)
        self.maps: dict[int, Array] = {}
        self.there = sum(any(store.folder.glob(f"{about}-*.npy")) for about, _ in self.keys)

    def fits(self) -> bool:
        """Return whether the store may hold all of the images."""
        return math.prod(self.order.shape) <= 0.9 * self.store.limit

    def work(self, begin: int) -> None:
        """See to it that every piece is there, beginning with some piece, together with whoever else does the same."""
        self.tell(begin)

    def tell(self, begin: int = 0) -> list[Seen | Skipped]:
        """Return what is told of all images, in order."""
        keys = [about for about, _ in self.keys]
        arrays = share(self.store, keys, self.make_piece, workers=1, begin=begin)
        return [one for array in arrays for one in unpack(json.loads(array.tobytes()))]

    def make_piece(self, number: int) -> Array:
        """Decode a piece, keep its pixels, and return what is told of it."""
        pixels, told = decode_piece(self.order, self.source, self.pieces[number])
        self.store.write(self.keys[number][1], pixels)
        return np.frombuffer(json.dumps(pack(told)).encode(), dtype=np.uint8)

    def gather(self, rows: Sequence[int]) -> Pixels:
        """Copy some images: uint8 of shape (n, 3, size, size)."""
        batch = np.empty((len(rows), *self.order.shape[1:]), dtype=np.uint8)
        length = len(self.pieces[0])
        for place, row in zip(batch, rows, strict=True):
            place[:] = self.map(row // length)[row % length]
        return batch

    def map(self, number: int) -> Array:
        """Return the pixels of a piece: those that are kept, checked, or decoded again where they are gone."""
        if number not in self.maps:
            found = obtain(self.store, self.keys[number][1], lambda: self.decode_again(number), PATIENCE)
            self.maps[number] = found if found is not None else self.decode_again(number)
        return self.maps[number]

    def decode_again(self, number: int) -> Array:
        return decode_piece(self.order, self.source, self.pieces[number])[0]


def decode_piece(order: Order, source: Source, piece: range) -> tuple[Pixels, list[Seen | Skipped]]:
    """Decode the images of a piece into rows of their own."""
    pixels = np.zeros((len(piece), *order.shape[1:]), dtype=np.uint8)
    told = decode_into(order, source, piece, pixels)
    return pixels, told


def cut(images: int) -> list[range]:
    """Cut the numbers of images into pieces of equal length, but for the last."""
    length = max(LEAST, -(-images // MOST_PIECES))
    return [range(begin, min(begin + length, images)) for begin in range(0, images, length)]


def name_pieces(order: Order, pieces: Sequence[range]) -> list[tuple[str, str]]:
    """Return the two keys of each piece: of what is told of it, and of its pixels."""
    common = {**describe_decoder(), "zip": hash_file(order), "size": order.size, "scaling": order.interpolation}
    common["keyed"] = order.keyed
    told, seen = ({**common, "what": what} for what in ("about", "pixels"))
    return [(name_piece(order, piece, told), name_piece(order, piece, seen)) for piece in pieces]


def name_piece(order: Order, piece: range, about: dict[str, Any]) -> str:
    own = {"names": order.names[piece.start : piece.stop], "glances": order.glances[piece.start : piece.stop]}
    return hashlib.sha256(json.dumps({**about, **own}, sort_keys=True).encode()).hexdigest()


def describe_decoder() -> dict[str, Any]:
    """Return what the pixels of an image depend on besides its file."""
    libraries = {name: version(name) for name in ("pillow", "numpy")}
    return {
        "format": FORMAT,
        **libraries,
        **{name: features.version(name) for name in DECODERS},
        "machine": platform.machine(),
    }


def hash_file(order: Order) -> str:
    """Return the SHA-256 of the zip: it stands for the bytes of every file in it."""
    with order.archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
