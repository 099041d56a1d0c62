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
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from job.settings import TrainingError

from images.layout import Sample, find_samples
from images.pixels import UnreadableImage, open_rgb, to_square
from images.splits import cut, perceptual_key
from images.streaming import ImageStream

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

MEMORY_LIMIT = 4 * 2**30
CORRUPT_LIMIT = 0.1
SMALL = 64
MAX_BYTES = 100_000_000
# The least side to which a JPEG is reduced if its pixels are not kept.
GLANCE = 4 * SMALL


@dataclass(frozen=True)
class Split:
    """The images of one split: rows (n,) of a cache (all, 3, size, size), class numbers (n,), hashes and names (n,).

    The cache is shared by the splits, so that cutting copies nothing.
    """

    cache: torch.Tensor
    rows: torch.Tensor
    labels: torch.Tensor
    hashes: list[str]
    names: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, chosen: torch.Tensor) -> torch.Tensor:
        """Copy the chosen images out of the cache: uint8 of shape (n, 3, size, size)."""
        return self.cache[self.rows[chosen]]


@dataclass(frozen=True)
class Dataset:
    """The three splits, the classes in the order of their numbers, and warnings for the user.

    `photographs` says whether the typical image is fairly large and in colour, so that its mirror image is another
    example of its class; that does not hold for digits, letters and scans.
    """

    classes: list[str]
    train: Split
    valid: Split
    test: Split
    warnings: list[str]
    photographs: bool


@dataclass(frozen=True)
class Decoded:
    """What is kept of an image besides its pixels."""

    sample: Sample
    key: bytes
    hash: str
    small: bool
    grey: bool


def find_archive(folder: Path) -> Path:
    """Return the dataset's zip in its channel; raise TrainingError if there is none or more than one."""
    archives = sorted(folder.glob("*.zip"))
    named = [path for path in archives if path.name == "dataset.zip"] or archives
    if len(named) != 1:
        found = ", ".join(path.name for path in archives) or "nothing"
        raise TrainingError(f"channel dataset ({folder}) must hold one zip, and it holds {found}")
    return named[0]


def read_dataset(
    archive: Path, size: int, *, threads: int, scratch: Path, streams: Callable[[int], bool] = lambda _: False
) -> Dataset:
    """Read, decode and split a zip of labelled images.

    size: the side in pixels of the squares in the cache. scratch: a folder for a cache larger than memory. streams:
    decides from the cache's size in bytes whether to do without one.
    Raise TrainingError for a file that is no zip, fewer than two classes, or too many unreadable images.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            samples = find_samples(opened.namelist())
            check_classes(samples)
            shape = (len(samples), 3, size, size)
            if streams(math.prod(shape)):
                return assemble(look_at_all(opened, samples, threads), make_stream(archive, samples, size, scratch))
            cache = make_cache(shape, scratch)
            decoded = decode_all(opened, samples, cache, threads)
    except zipfile.BadZipFile as error:
        raise TrainingError(f"{archive.name} is no zip that can be read ({error}); upload it again") from error
    return assemble(decoded, torch.from_numpy(cache))


def make_stream(archive: Path, samples: Sequence[Sample], size: int, scratch: Path) -> ImageStream:
    """Make a stream that decodes samples on demand; the zip stays open as long as the stream lives."""
    opened = zipfile.ZipFile(archive)

    def load(row: int) -> Pixels:
        return to_square(open_rgb(read_entry(opened, samples[row].name)), size)

    return ImageStream(load, len(samples), size, lambda shape: make_cache(shape, scratch))


def check_classes(samples: Sequence[Sample]) -> None:
    """Refuse a dataset from which nothing can be learned."""
    classes = {sample.label for sample in samples if sample.split == "train"}
    if len(classes) < 2:
        found = ", ".join(sorted(classes)) or "none"
        raise TrainingError(f"at least two class folders with images are needed in train, and it has: {found}")
    strange = sorted({sample.label for sample in samples} - classes)
    if strange:
        raise TrainingError(f"classes with no image in train cannot be learnt: {', '.join(strange)}; add some")


def make_cache(shape: tuple[int, ...], scratch: Path) -> Pixels:
    """Reserve space for the pixels: memory, or beyond MEMORY_LIMIT an unnamed file that nobody has to delete."""
    if math.prod(shape) <= MEMORY_LIMIT:
        return np.empty(shape, dtype=np.uint8)
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as file:
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)


def decode_all(
    opened: zipfile.ZipFile, samples: Sequence[Sample], cache: Pixels, threads: int
) -> list[Decoded | UnreadableImage]:
    """Decode every sample into its row of the cache on several threads: Pillow releases Python's lock."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda index: decode(opened, samples[index], cache[index]), range(len(samples))))


def look_at_all(opened: zipfile.ZipFile, samples: Sequence[Sample], threads: int) -> list[Decoded | UnreadableImage]:
    """Learn the same about every sample as decode_all does, but keep no pixels.

    If all splits are present, JPEGs are decoded small, which takes a third of the time. A cut needs them whole: a key
    must not depend on how an image was read.
    """
    whole = {sample.split for sample in samples} != {"train", "valid", "test"}

    def look(sample: Sample) -> Decoded | UnreadableImage:
        row = np.empty((3, SMALL, SMALL), dtype=np.uint8)
        return decode(opened, sample, row, glance=None if whole else GLANCE)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(look, samples))


def decode(
    opened: zipfile.ZipFile, sample: Sample, row: Pixels, *, glance: int | None = None
) -> Decoded | UnreadableImage:
    """Decode one sample into its row; return an unreadable image as a value, so that the others go on.

    glance: the least side in pixels to which a JPEG may be reduced while it is decoded.
    """
    try:
        data = read_entry(opened, sample.name)
        image = open_rgb(data, glance)
    except Exception as error:  # noqa: BLE001  zipfile and its decompressors raise many kinds: zlib.error, EOFError …
        return UnreadableImage(f"{sample.name}: {error}")
    row[:] = to_square(image, row.shape[-1])
    grey = bool((row[0] == row[1]).all() and (row[1] == row[2]).all())
    digest = hashlib.blake2b(data, digest_size=8).hexdigest()
    return Decoded(sample, perceptual_key(image), digest, min(image.size) < SMALL, grey)


def read_entry(opened: zipfile.ZipFile, name: str) -> bytes:
    """Read one file of the zip unless its stated size would fill the memory."""
    size = opened.getinfo(name).file_size
    if size > MAX_BYTES:
        raise UnreadableImage(f"{size} bytes are more than {MAX_BYTES}")
    return opened.read(name)


def assemble(decoded: Sequence[Decoded | UnreadableImage], cache: torch.Tensor | ImageStream) -> Dataset:
    """Put the decoded images into their splits and cut the missing ones from train."""
    warnings = report_unreadable([one for one in decoded if isinstance(one, UnreadableImage)], len(decoded))
    kept = [(index, one) for index, one in enumerate(decoded) if isinstance(one, Decoded)]
    check_classes([one.sample for _, one in kept])
    classes = sorted({one.sample.label for _, one in kept})
    sides, cut_warnings = choose_sides([one for _, one in kept])
    members = {side: [pair for pair, own in zip(kept, sides, strict=True) if own == side] for side in set(sides)}
    check_splits(members)
    splits = {side: take(pairs, cache, classes) for side, pairs in members.items()}
    warnings += [*cut_warnings, *report_leaks(splits["train"], splits["test"])]
    return Dataset(classes, splits["train"], splits["valid"], splits["test"], warnings, are_photographs(kept))


def report_unreadable(broken: Sequence[UnreadableImage], total: int) -> list[str]:
    """Warn of skipped images; raise TrainingError if they are more than CORRUPT_LIMIT of all."""
    if not broken:
        return []
    text = f"{len(broken)} of {total} images cannot be read, the first: {broken[0]}"
    if len(broken) > CORRUPT_LIMIT * total:
        raise TrainingError(f"{text}; at most {CORRUPT_LIMIT:.0%} may be broken, so mend or remove them")
    return [f"{text}; they were skipped"]


def choose_sides(images: Sequence[Decoded]) -> tuple[list[str], list[str]]:
    """Return the split of each image, and warnings."""
    sides = [one.sample.split for one in images]
    missing = [split for split in ("valid", "test") if split not in sides]
    if not missing:
        return sides, []
    train = [index for index, side in enumerate(sides) if side == "train"]
    chosen, warnings = cut([images[i].key for i in train], [images[i].sample.label for i in train], missing)
    for index, side in zip(train, chosen, strict=True):
        sides[index] = side
    return sides, warnings


def check_splits(members: dict[str, list[tuple[int, Decoded]]]) -> None:
    absent = [split for split in ("train", "valid", "test") if not members.get(split)]
    if absent:
        raise TrainingError(f"too few different images to fill the split {' and '.join(absent)}; add more images")


def take(pairs: Sequence[tuple[int, Decoded]], cache: torch.Tensor | ImageStream, classes: Sequence[str]) -> Split:
    """Gather one split."""
    numbers = {name: number for number, name in enumerate(classes)}
    rows = torch.tensor([index for index, _ in pairs])
    labels = torch.tensor([numbers[one.sample.label] for _, one in pairs])
    return Split(cache, rows, labels, [one.hash for _, one in pairs], [one.sample.name for _, one in pairs])


def report_leaks(train: Split, test: Split) -> list[str]:
    """Warn of test images that are in train too: they flatter the measured quality."""
    shared = sum(digest in set(train.hashes) for digest in test.hashes) if set(train.hashes) & set(test.hashes) else 0
    return [f"{shared} of {len(test)} test images are in train too, so the test flatters"] if shared else []


def are_photographs(kept: Sequence[tuple[int, Decoded]]) -> bool:
    plain = Counter(one.small or one.grey for _, one in kept)
    return plain[False] > plain[True]


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
