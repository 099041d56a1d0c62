"""Decode one file of a zip into a row of pixels, and say what is kept of it besides."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from images.decoding.decoder import UnreadableImage, open_rgb, to_square
from images.decoding.keys import perceptual_key
from images.decoding.skipping import Skipped, explain

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

MAX_BYTES = 100_000_000
SMALL = 64


@dataclass(frozen=True)
class Order:
    """What is to be decoded, and how: files by name, the side of their squares, and how they are scaled.

    glances: the least side in pixels to which each JPEG may be reduced while it is decoded; 0 forbids it. Only images
    that no one is judged by may be reduced, since their pixels differ a little. keyed: whether a split is cut by what
    images look like.
    """

    archive: Path
    names: tuple[str, ...]
    glances: tuple[int, ...]
    size: int
    interpolation: str = "bilinear"
    keyed: bool = True

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.names), 3, self.size, self.size


@dataclass(frozen=True)
class Seen:
    """What is kept of an image besides its pixels. key: what it looks like, or nothing where no split is cut."""

    key: bytes
    hash: str
    small: bool
    grey: bool
    twelve_bits: bool = False


@dataclass(frozen=True)
class Source:
    """An open zip and its files by their names, decoded alike under every version of Python.

    interpolation: how images are scaled, bilinear or bicubic.
    """

    opened: zipfile.ZipFile
    entries: Mapping[str, zipfile.ZipInfo]
    interpolation: str = "bilinear"

    def read(self, name: str) -> bytes:
        return read_entry(self.opened, self.entries[name])

    def read_head(self, name: str, most: int) -> bytes:
        """Read the first bytes of a file; none of what cannot be unpacked."""
        try:
            with self.opened.open(self.entries[name]) as file:
                return file.read(most)
        except Exception:  # noqa: BLE001  zipfile and its decompressors raise many kinds; the file is not an image then
            return b""

    def reopen(self, archive: Path) -> None:
        """Read through a file handle of this process's own: what a fork shares has one position for all."""
        self.opened.fp = archive.open("rb")


def read_entry(opened: zipfile.ZipFile, entry: zipfile.ZipInfo | str) -> bytes:
    """Read one file of the zip unless its stated size would fill the memory."""
    size = (opened.getinfo(entry) if isinstance(entry, str) else entry).file_size
    if size > MAX_BYTES:
        raise UnreadableImage(f"{size} bytes are more than {MAX_BYTES}")
    return opened.read(entry)


def decode(source: Source, name: str, row: Pixels, *, glance: int = 0, keyed: bool = True) -> Seen | Skipped:
    """Decode one file into its row; return an unreadable image as a value, so that the others go on."""
    data = None
    try:
        data = source.read(name)
        image = open_rgb(data, glance)
    except Exception as error:  # noqa: BLE001  zipfile and its decompressors raise many kinds: zlib.error, EOFError …
        return explain(name, data, error)
    row[:] = to_square(image, row.shape[-1], source.interpolation)
    grey = bool((row[0] == row[1]).all() and (row[1] == row[2]).all())
    digest = hashlib.blake2b(data, digest_size=8).hexdigest()
    bits = bool(image.info.get("twelve_bits"))
    return Seen(perceptual_key(image) if keyed else b"", digest, min(image.size) < SMALL, grey, bits)


def decode_into(order: Order, source: Source, piece: range, rows: Pixels) -> list[Seen | Skipped]:
    """Decode a piece of an order into its rows."""
    pairs = zip(piece, rows, strict=True)
    options = {"keyed": order.keyed}
    return [decode(source, order.names[each], row, glance=order.glances[each], **options) for each, row in pairs]


def pack(told: Sequence[Seen | Skipped]) -> list[list[Any]]:
    """Return what was told of images as plain data."""
    return [["seen", one.key.hex(), *astuple(one)[1:]] if isinstance(one, Seen) else [*astuple(one)] for one in told]


def unpack(packed: Sequence[Sequence[Any]]) -> list[Seen | Skipped]:
    """Return what `pack` made plain."""
    return [
        Seen(bytes.fromhex(one[1]), *one[2:]) if one[0] == "seen" and len(one) == 6 else Skipped(*one) for one in packed
    ]
