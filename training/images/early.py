"""Look through a zip, and begin to decode it in processes while torch, which that does not need, is imported."""

from __future__ import annotations

import math
import mmap
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from caching.store import open_store
from job.settings import Hyperparameters, Job, TrainingError

from images.decoding.crew import Crew
from images.decoding.decoder import choose_resize
from images.decoding.kept import Kept
from images.decoding.rows import Order, Pixels, Seen, Source, decode_into, pack, unpack
from images.decoding.skipping import Skipped
from images.layout import Found, list_entries, read_layout
from images.reading.labels import Wishes

MEMORY_LIMIT = 4 * 2**30
LEAST = 2  # images that a process takes at a time: few, so that none is alone with large ones while the others are done
MOST_PIECES = 8000
# Networks whose ImageNet weights take inputs of 224 pixels from a side of 256, scaled bilinearly, as every network
# without weights does. Of others the side is known only once torchvision is imported.
PLAIN = ("alexnet", "densenet", "mobilenet", "resnet", "resnext50", "squeezenet", "vgg", "wide_resnet")


@dataclass(frozen=True)
class Opened:
    """A zip that was looked through."""

    archive: Path
    source: Source
    found: Found

    def order(self, size: int, *, only_train: bool = False, cut: bool = False) -> Order:
        """Say how its images are decoded. only_train: the train split's images serve no other purpose.

        Those may be reduced on the way, unless a split is missing: an image that is cut out of train is judged.
        cut: whether a split is missing although the zip has it, because none of its images can be read.
        """
        samples, cut = self.found.samples, cut or self.has_to_be_cut()
        whole = not only_train or cut
        glances = (0 if whole or sample.split != "train" else size for sample in samples)
        names = tuple(sample.name for sample in samples)
        return Order(self.archive, names, tuple(glances), size, self.source.interpolation, cut)

    def has_to_be_cut(self) -> bool:
        """Return whether a split is missing."""
        return {sample.split for sample in self.found.samples} != {"train", "valid", "test"}


def look_through(archive: Path, wishes: Wishes, interpolation: str = "bilinear") -> Opened:
    """Open a zip and find its images, their splits and their classes."""
    opened = zipfile.ZipFile(archive)
    source = Source(opened, list_entries(opened, wishes.name_encoding), interpolation)
    return Opened(archive, source, read_layout(source.entries, wishes, source.read_head))


class Decoding:
    """The images of an order while they are decoded.

    pixels: where they will lie, a store that keeps them, or None where only what is told of them matters.
    """

    def __init__(self, opened: Opened, order: Order, pixels: Pixels | Kept | None, crew: Crew | None) -> None:
        self.opened, self.order, self.pixels, self.crew = opened, order, pixels, crew

    def finish(self) -> list[Seen | Skipped]:
        """Return what is told of all images, once they are decoded; what no process did is done here."""
        found = self.crew.wait() if self.crew else {}
        if isinstance(self.pixels, Kept):
            return self.pixels.tell()
        pieces = cut(len(self.order.names))
        work = partial(decode_piece, self.order, self.opened.source, self.pixels, pieces)
        return [one for number in range(len(pieces)) for one in unpack(found.get(number) or work(number))]

    def dismiss(self) -> None:
        if self.crew:
            self.crew.dismiss()


def begin(opened: Opened, order: Order, *, workers: int, scratch: Path, shared: Path | None = None) -> Decoding:
    """Begin to decode. shared: the folder where this machine's jobs keep pixels for one another, if there is one."""
    kept = Kept(order, opened.source, store) if (store := open_store(shared)) else None
    if kept and kept.fits():
        work = partial(keep_pieces, opened, kept, workers)
        return Decoding(opened, order, kept, Crew(workers, workers, work) if kept.there < len(kept.pieces) else None)
    return decode_in_parts(opened, order, make_cache(order.shape, scratch), workers)


def decode_in_parts(opened: Opened, order: Order, pixels: Pixels | None, workers: int) -> Decoding:
    """Begin to decode into rows of pixels, or to look at images without keeping them."""
    pieces = cut(len(order.names))
    members = min(workers, len(pieces))
    crew = Crew(len(pieces), members, Apart(opened, order, pixels, pieces)) if members > 1 else None
    return Decoding(opened, order, pixels, crew)


class Apart:
    """Decodes pieces in another process, through a file handle of its own."""

    def __init__(self, opened: Opened, order: Order, pixels: Pixels | None, pieces: Sequence[range]) -> None:
        self.opened, self.order, self.pixels, self.pieces = opened, order, pixels, pieces
        self.moved = False

    def __call__(self, number: int) -> list[list[Any]]:
        if not self.moved:
            self.opened.source.reopen(self.order.archive)
            self.moved = True
        return decode_piece(self.order, self.opened.source, self.pixels, self.pieces, number)


def keep_pieces(opened: Opened, kept: Kept, workers: int, member: int) -> None:
    """Take part in filling a store, in another process."""
    opened.source.reopen(kept.order.archive)
    kept.work(member * len(kept.pieces) // workers)


def decode_piece(
    order: Order, source: Source, pixels: Pixels | None, pieces: Sequence[range], number: int
) -> list[list[Any]]:
    """Decode a piece into its rows; return what is told of it as plain data."""
    piece = pieces[number]
    rows = (
        np.empty((len(piece), *order.shape[1:]), dtype=np.uint8) if pixels is None else pixels[piece.start : piece.stop]
    )
    return pack(decode_into(order, source, piece, rows))


def cut(images: int) -> list[range]:
    length = max(LEAST, -(-images // MOST_PIECES))
    return [range(start, min(start + length, images)) for start in range(0, images, length)]


def make_cache(shape: tuple[int, ...], scratch: Path) -> Pixels:
    """Reserve space that forked processes share: memory, or beyond MEMORY_LIMIT an unnamed file that nobody deletes."""
    size = math.prod(shape)
    if size <= MEMORY_LIMIT:
        return np.frombuffer(mmap.mmap(-1, max(1, size)), dtype=np.uint8)[:size].reshape(shape)
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as file:
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)


def find_archive(folder: Path) -> Path:
    """Return the dataset's zip in its channel; raise TrainingError if there is none or more than one."""
    archives = sorted(path for path in folder.glob("*") if path.suffix.lower() == ".zip")
    named = [path for path in archives if path.name == "dataset.zip"] or archives
    if len(named) != 1:
        found = ", ".join(path.name for path in archives) or "nothing"
        raise TrainingError(f"channel dataset ({folder}) must hold one zip, and it holds {found}")
    return named[0]


def read_wishes(chosen: Hyperparameters) -> Wishes:
    """Return what the recipe says about reading the dataset."""
    return Wishes.read(chosen.class_level, chosen.name_encoding, chosen.ignore, chosen.group, chosen.labels)


def choose_stream(chosen: Hyperparameters, needed: int) -> bool:
    """Return whether to decode images on demand. needed: the size of a decoded cache, in bytes.

    Only a profiled training starts that way: it measures which way serves its images best (execution_plan.py).
    """
    too_large = chosen.profile and needed > MEMORY_LIMIT
    return chosen.cache == "none" or (chosen.cache == "auto" and too_large)


def only_trains(chosen: Hyperparameters) -> bool:
    """Return whether the train split's images are for batches alone: nothing is fitted to them without weights."""
    return chosen.pretrained == "none"


def decode_early(job: Job, chosen: Hyperparameters, log: Callable[[str], None]) -> Decoding | None:
    """Begin to decode the job's images, if it is known how. What is wrong with them is said later."""
    if chosen.pretrained != "none" and not chosen.architecture.startswith(PLAIN):
        return None
    try:
        opened = look_through(find_archive(job.places.dataset), read_wishes(chosen))
        order = opened.order(choose_resize(chosen.image_size), only_train=only_trains(chosen))
        if opened.found.problem or not order.names or choose_stream(chosen, math.prod(order.shape)):
            return None
        scratch = job.places.output / "scratch"
        return begin(opened, order, workers=job.threads, scratch=scratch, shared=job.pixel_cache)
    except Exception as error:  # noqa: BLE001  whatever is wrong, the reader of the dataset meets it again and says so
        log(f"images are not decoded early ({type(error).__name__})")
        return None
