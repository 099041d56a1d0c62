"""Decode the images of the zip into a cache, and serve whole batches from it.

Every image is decoded once, scaled to a square and kept as bytes, so an epoch costs no decoding. The price is 3 x size
x size bytes of memory per image. A cache beyond MEMORY_LIMIT lies in an unlinked file that the system pages, or is left
out: then images are decoded on demand (see streaming.py).
"""

from __future__ import annotations

import hashlib
import math
import tempfile
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from job.settings import TrainingError

from images.assembly import SMALL, Dataset, Decoded, assemble, check_classes
from images.layout import Found, Sample, list_entries, read_layout
from images.pixels import UnreadableImage, open_rgb, to_square
from images.reading.labels import Wishes
from images.skipping import Skipped, explain
from images.splits import perceptual_key
from images.streaming import ImageStream

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

MEMORY_LIMIT = 4 * 2**30
MAX_BYTES = 100_000_000
# The least side to which a JPEG is reduced if its pixels are not kept.
GLANCE = 4 * SMALL


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


def find_archive(folder: Path) -> Path:
    """Return the dataset's zip in its channel; raise TrainingError if there is none or more than one."""
    archives = sorted(path for path in folder.glob("*") if path.suffix.lower() == ".zip")
    named = [path for path in archives if path.name == "dataset.zip"] or archives
    if len(named) != 1:
        found = ", ".join(path.name for path in archives) or "nothing"
        raise TrainingError(f"channel dataset ({folder}) must hold one zip, and it holds {found}")
    return named[0]


def read_dataset(
    archive: Path,
    size: int,
    *,
    threads: int,
    scratch: Path,
    streams: Callable[[int], bool] = lambda _: False,
    wishes: Wishes | None = None,
    interpolation: str = "bilinear",
) -> Dataset:
    """Read, decode and split a zip of labelled images.

    size: the side in pixels of the squares in the cache. scratch: a folder for a cache larger than memory. streams:
    decides from the cache's size in bytes whether to do without one. wishes: what the recipe says about reading it.
    Raise TrainingError for a file that is not a zip, fewer than two classes, or too many unreadable images.
    """
    wishes = wishes or Wishes()
    try:
        with zipfile.ZipFile(archive) as opened:
            source = Source(opened, list_entries(opened, wishes.name_encoding), interpolation)
            found = read_layout(source.entries, wishes, source.read_head)
            check_found(found)
            samples = found.samples
            shape = (len(samples), 3, size, size)
            if streams(math.prod(shape)):
                decoded = look_at_all(source, samples, threads)
                return assemble(decoded, make_stream(archive, source, samples, size, scratch), wishes)
            cache = make_cache(shape, scratch)
            decoded = decode_all(source, samples, cache, threads)
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError) as error:
        raise TrainingError(f"{archive.name} is not a readable zip ({error}); upload it again") from error
    return assemble(decoded, torch.from_numpy(cache), wishes)


def make_stream(archive: Path, known: Source, samples: Sequence[Sample], size: int, scratch: Path) -> ImageStream:
    """Make a stream that decodes samples on demand; the zip stays open as long as the stream lives."""
    source = replace(known, opened=zipfile.ZipFile(archive))

    def load(row: int) -> Pixels:
        return to_square(open_rgb(source.read(samples[row].name)), size, source.interpolation)

    return ImageStream(load, len(samples), size, lambda shape: make_cache(shape, scratch))


def check_found(found: Found) -> None:
    """Refuse a dataset that pre-flight refuses, and one from which nothing can be learned."""
    if found.problem:
        raise TrainingError(f"the classes cannot be told: {found.problem}; dataset.json says what to do")
    check_classes(found.samples)


def make_cache(shape: tuple[int, ...], scratch: Path) -> Pixels:
    """Reserve space for the pixels: memory, or beyond MEMORY_LIMIT an unnamed file that nobody has to delete."""
    if math.prod(shape) <= MEMORY_LIMIT:
        return np.empty(shape, dtype=np.uint8)
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as file:
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)


def decode_all(source: Source, samples: Sequence[Sample], cache: Pixels, threads: int) -> list[Decoded | Skipped]:
    """Decode every sample into its row of the cache on several threads: Pillow releases Python's lock."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda index: decode(source, samples[index], cache[index]), range(len(samples))))


def look_at_all(source: Source, samples: Sequence[Sample], threads: int) -> list[Decoded | Skipped]:
    """Learn the same about every sample as decode_all does, but keep no pixels.

    If all splits are present, JPEGs are decoded small, which takes a third of the time. A cut needs them whole: a key
    must not depend on how an image was read.
    """
    whole = {sample.split for sample in samples} != {"train", "valid", "test"}

    def look(sample: Sample) -> Decoded | Skipped:
        row = np.empty((3, SMALL, SMALL), dtype=np.uint8)
        return decode(source, sample, row, glance=None if whole else GLANCE)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(look, samples))


def decode(source: Source, sample: Sample, row: Pixels, *, glance: int | None = None) -> Decoded | Skipped:
    """Decode one sample into its row; return an unreadable image as a value, so that the others go on.

    glance: the least side in pixels to which a JPEG may be reduced while it is decoded.
    """
    data = None
    try:
        data = source.read(sample.name)
        image = open_rgb(data, glance)
    except Exception as error:  # noqa: BLE001  zipfile and its decompressors raise many kinds: zlib.error, EOFError …
        return explain(sample.name, data, error)
    row[:] = to_square(image, row.shape[-1], source.interpolation)
    grey = bool((row[0] == row[1]).all() and (row[1] == row[2]).all())
    digest = hashlib.blake2b(data, digest_size=8).hexdigest()
    bits = bool(image.info.get("twelve_bits"))
    return Decoded(sample, perceptual_key(image), digest, min(image.size) < SMALL, grey, bits)


def read_entry(opened: zipfile.ZipFile, entry: zipfile.ZipInfo | str) -> bytes:
    """Read one file of the zip unless its stated size would fill the memory."""
    size = (opened.getinfo(entry) if isinstance(entry, str) else entry).file_size
    if size > MAX_BYTES:
        raise UnreadableImage(f"{size} bytes are more than {MAX_BYTES}")
    return opened.read(entry)


class Batches:
    """Batches of a split in an order that depends on (seed, epoch) alone, so that a resumed training sees the same.

    They have about equal sizes, since a last batch of one image would break batch normalisation. fetch copies the
    examples of the given numbers; prepare turns them, on the device and with a random generator, into the network's
    input.

    How batches are fetched may change between epochs without changing their content: `prefetch` batches are fetched
    ahead, `pin` puts them where a GPU copies from fastest. `mark` is called when a batch was begun, fetched (data) and
    copied.
    """

    def __init__(
        self,
        fetch: Callable[[torch.Tensor], torch.Tensor],
        labels: torch.Tensor,
        prepare: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.fetch, self.labels, self.prepare = fetch, labels, prepare
        self.seed, self.device = seed, device
        self.steps = max(1, round(len(labels) / batch_size))
        self.prefetch, self.pin = 0, False
        self.mark: Callable[[str], None] = lambda _: None

    def of_epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (inputs, class numbers) of the epoch's batches, starting with number `first`."""
        order = torch.randperm(len(self.labels), generator=self.generator(epoch, -1))
        parts = order.tensor_split(self.steps)[first:]
        self.mark("begin")
        for step, (chosen, fetched) in enumerate(zip(parts, self.fetch_ahead(parts), strict=True), first):
            self.mark("data")
            inputs, labels = fetched.to(self.device, non_blocking=True), self.labels[chosen].to(self.device)
            self.mark("copy")
            yield self.prepare(inputs, self.generator(epoch, step)), labels
            self.mark("begin")

    def fetch_ahead(self, parts: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield the examples of each part, fetched while the parts before it are in use."""
        if not self.prefetch:
            yield from map(self.fetch_part, parts)
            return
        pool, waiting = ThreadPoolExecutor(1), deque()
        try:
            for part in parts:
                waiting.append(pool.submit(self.fetch_part, part))
                if len(waiting) > self.prefetch:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def fetch_part(self, chosen: torch.Tensor) -> torch.Tensor:
        fetched = self.fetch(chosen)
        return fetched.pin_memory() if self.pin else fetched

    def generator(self, epoch: int, step: int) -> torch.Generator:
        """Make the random generator of one step, which depends on nothing before it."""
        text = f"{self.seed}/{epoch}/{step}".encode()
        return torch.Generator().manual_seed(int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big"))
