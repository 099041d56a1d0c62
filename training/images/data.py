"""Read the dataset of a job, and serve whole batches of its images.

Every image is decoded once, scaled to a square and kept as bytes, so an epoch costs no decoding. The price is 3 x size
x size bytes of memory per image. A cache beyond MEMORY_LIMIT lies in an unlinked file that the system pages, or is left
out: then images are decoded on demand (see streaming.py).
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from job.metrics import log
from job.settings import TrainingError

from images.assembly import Dataset, Decoded, Split, assemble, check_classes
from images.decoding.decoder import open_rgb, to_square
from images.decoding.kept import Kept
from images.decoding.rows import SMALL, Order, Pixels, Seen
from images.decoding.skipping import Skipped
from images.early import Decoding, Opened, begin, decode_in_parts, look_through, make_cache
from images.layout import Found
from images.reading.labels import Wishes
from images.streaming import ImageStream

HELD_SHARE = 0.4  # of a GPU's free memory that images may take; the rest is for the network's activations
Mix = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
COPIED = 512  # images that are copied to it at a time
# The least side to which a JPEG is reduced if its pixels are not kept.
GLANCE = 4 * SMALL


def read_dataset(
    archive: Path,
    size: int,
    *,
    threads: int,
    scratch: Path,
    streams: Callable[[int], bool] = lambda _: False,
    wishes: Wishes | None = None,
    interpolation: str = "bilinear",
    only_train: bool = False,
    shared: Path | None = None,
    early: Decoding | None = None,
) -> Dataset:
    """Read, decode and split a zip of labelled images.

    size: the side in pixels of the squares in the cache. scratch: a folder for a cache larger than memory. streams:
    decides from the cache's size in bytes whether to do without one. wishes: what the recipe says about reading it.
    only_train: whether the train split's images serve nothing but batches. shared: where this machine's jobs keep
    decoded pixels. early: what was begun before. Raise TrainingError for a file that is not a zip, fewer than two
    classes, or too many unreadable images.
    """
    wishes = wishes or Wishes()
    try:
        opened = early.opened if early else look_through(archive, wishes, interpolation)
        if opened.source.interpolation != interpolation:
            opened = replace(opened, source=replace(opened.source, interpolation=interpolation))
        check_found(opened.found)
        order = opened.order(size, only_train=only_train)
        stream = streams(math.prod(order.shape))
        if early and (early.order != order or stream):
            early.dismiss()
            early = None
        work = Work(threads, scratch, shared, stream)
        decoded, rows = work.carry_out(opened, order, early)
        if not order.keyed and lacks_split(decoded):
            decoded, rows = work.carry_out(opened, opened.order(size, cut=True), None)
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError) as error:
        raise TrainingError(f"{archive.name} is not a readable zip ({error}); upload it again") from error
    return assemble(decoded, rows, wishes)


@dataclass(frozen=True)
class Work:
    """How images are decoded: by how many processes, where, and whether only when they are needed."""

    threads: int
    scratch: Path
    shared: Path | None
    stream: bool

    def carry_out(
        self, opened: Opened, order: Order, early: Decoding | None
    ) -> tuple[list[Decoded | Skipped], torch.Tensor | KeptRows | ImageStream]:
        """Return what is told of the images of an order, and what gives their pixels."""
        if self.stream:
            told = look_at_all(opened, order, self.threads)
            return join(opened.found, told), make_stream(opened, order.size, self.scratch)
        decoding = early or begin(opened, order, workers=self.threads, scratch=self.scratch, shared=self.shared)
        decoded = join(opened.found, decoding.finish())
        return decoded, make_rows(decoding.pixels)


def lacks_split(decoded: Sequence[Decoded | Skipped]) -> bool:
    """Return whether a split has no image that can be read."""
    return len({one.sample.split for one in decoded if isinstance(one, Decoded)}) < len(("train", "valid", "test"))


class KeptRows:
    """The rows of a cache that other jobs share: mapped when they are looked at."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.kept.gather(rows.tolist()))


def make_rows(pixels: Pixels | Kept | None) -> torch.Tensor | KeptRows:
    """Return what gives the images of row numbers."""
    if isinstance(pixels, Kept):
        log(f"pixels of {len(pixels.order.names)} images: {pixels.there} of {len(pixels.pieces)} chunks were there")
        return KeptRows(pixels)
    if pixels is None:
        raise ValueError("no pixels were asked for")
    return torch.from_numpy(pixels)


def join(found: Found, told: Sequence[Seen | Skipped]) -> list[Decoded | Skipped]:
    """Put what was told of the images beside what the zip says of them."""
    pairs = zip(found.samples, told, strict=True)
    return [one if isinstance(one, Skipped) else Decoded(sample, *astuple(one)) for sample, one in pairs]


def make_stream(opened: Opened, size: int, scratch: Path) -> ImageStream:
    """Make a stream that decodes images on demand; the zip stays open as long as the stream lives."""
    samples, source = opened.found.samples, opened.source

    def load(row: int, glance: int = 0) -> Pixels:
        return to_square(open_rgb(source.read(samples[row].name), glance), size, source.interpolation)

    return ImageStream(load, len(samples), size, lambda shape: make_cache(shape, scratch))


def check_found(found: Found) -> None:
    """Refuse a dataset that pre-flight refuses, and one from which nothing can be learned."""
    if found.problem:
        raise TrainingError(f"the classes cannot be told: {found.problem}; dataset.json says what to do")
    check_classes(found.samples)


def look_at_all(opened: Opened, order: Order, threads: int) -> list[Seen | Skipped]:
    """Learn the same about every sample as a decoding does, but keep no pixels.

    If all splits are present, JPEGs are decoded small, which takes a third of the time. A cut needs them whole: a key
    must not depend on how an image was read.
    """
    glances = (0 if order.keyed else GLANCE,) * len(order.names)
    return decode_in_parts(opened, replace(order, size=SMALL, glances=glances), None, threads).finish()


def leave(inputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return inputs, labels


def draw_all(labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw every example once."""
    return torch.randperm(len(labels), generator=generator)


class Mixer(Protocol):
    """Mixes each image with the one before it, by numbers that are drawn for each place of an epoch."""

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Draw the numbers (count, …) on the CPU."""
        ...

    def mix(self, inputs: torch.Tensor, labels: torch.Tensor, drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix all inputs but the first with the one before each. Return them with the classes' shares."""
        ...


class Batches:
    """Batches of a split in an order that depends on (seed, epoch) alone, so that a resumed training sees the same.

    They have about equal sizes, since a last batch of one image would break batch normalisation. fetch copies the
    examples of the given numbers; prepare turns them, on the device and by random numbers, into the network's input;
    order chooses an epoch's examples by their labels.
    An epoch's order and its `draws` random numbers for each of its places are drawn on the CPU, whatever the device and
    the size of a batch, and are copied once.
    With `mixing` each image is mixed with the one before it in its batch, the first with the last, and the labels are
    the shares (n, classes) of the classes.

    How batches are fetched may change between epochs without changing their content: with `held` the examples lie on
    the device, `prefetch` batches are fetched ahead, `pin` puts them where a GPU copies from fastest. `mark` is called
    when a batch was begun, fetched (data) and copied.
    """

    def __init__(
        self,
        fetch: Callable[[torch.Tensor], torch.Tensor],
        labels: torch.Tensor,
        prepare: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        draws: int = 0,
        order: Callable[[torch.Tensor, torch.Generator], torch.Tensor] = draw_all,
    ) -> None:
        self.fetch, self.labels, self.prepare, self.order = fetch, labels, prepare, order
        self.seed, self.device, self.draws = seed, device, draws
        self.steps = max(1, round(len(labels) / batch_size))
        self.held: torch.Tensor | None = None
        self.prefetch, self.pin = 0, False
        self.rank, self.ranks = 0, 1
        self.mixing: Mixer | None = None
        self.mark: Callable[[str], None] = lambda _: None

    def of_epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (inputs, labels) of the epoch's batches, starting with number `first`."""
        order = self.order(self.labels, self.generator(epoch, "order"))
        chance = torch.rand((len(order), self.draws), generator=self.generator(epoch, "chance"))
        labels, chance = self.labels[order].to(self.device), chance.to(self.device)
        mixes = self.draw_mixes(len(order), epoch)[first:]
        parts = self.cut(order)[first:]
        self.mark("begin")
        given = self.cut(chance)[first:], self.cut(labels)[first:]
        for fetched, chances, own, mix in zip(self.fetch_ahead(parts), *given, mixes, strict=True):
            self.mark("data")
            inputs = fetched.to(self.device, non_blocking=True)
            self.mark("copy")
            yield mix(self.prepare(inputs, chances), own)
            self.mark("begin")

    def share(self, rank: int, ranks: int) -> None:
        """Yield one part of each batch from now on, of as many parts as there are processes."""
        self.rank, self.ranks = rank, ranks

    def draw_mixes(self, count: int, epoch: int) -> Sequence[Mix]:
        """Return what mixes the inputs and labels of each of an epoch's batches: nothing changes without `mixing`."""
        if self.mixing is None:
            return [leave] * self.steps
        drawn = self.mixing.draw(count, self.generator(epoch, "mixing")).to(self.device)
        return [partial(self.mixing.mix, drawn=part) for part in map(self.take_part, drawn.tensor_split(self.steps))]

    def cut(self, values: torch.Tensor) -> Sequence[torch.Tensor]:
        """Cut an epoch's values into its batches, of each this process's part, and what its first is mixed with."""
        batches = values.tensor_split(self.steps)
        if self.mixing is None:
            return [self.take_part(batch) for batch in batches]
        return [torch.cat([self.take_part(batch, -1)[-1:], self.take_part(batch)]) for batch in batches]

    def take_part(self, batch: torch.Tensor, further: int = 0) -> torch.Tensor:
        """Return this process's part of a batch, or that of a process further on; before the first is the last."""
        return batch.tensor_split(self.ranks)[(self.rank + further) % self.ranks]

    def fetch_ahead(self, parts: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield the examples of each part, fetched while the parts before it are in use."""
        if self.held is not None and parts:
            chosen = torch.cat(list(parts)).to(self.held.device)
            for part in chosen.split([len(part) for part in parts]):
                yield self.held[part]
            return
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

    def generator(self, epoch: int, what: str) -> torch.Generator:
        """Make the random generator of one epoch, which depends on nothing before it."""
        text = f"{self.seed}/{epoch}/{what}".encode()
        return torch.Generator().manual_seed(int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big"))


def hold_split(split: Split, device: torch.device, free: int | None = None) -> torch.Tensor | None:
    """Return a split's images on a device, or None if they are decoded on demand or do not fit.

    free: the bytes that the device has left; by default it is asked.
    """
    if isinstance(split.cache, ImageStream) or not len(split):
        return None
    one = split.images(torch.tensor([0]))
    free = torch.cuda.mem_get_info(device)[0] if free is None else free
    if one.numel() * len(split) > HELD_SHARE * free:
        return None
    held = torch.empty((len(split), *one.shape[1:]), dtype=torch.uint8, device=device)
    for chosen in torch.arange(len(split)).split(COPIED):
        held[chosen[0] : chosen[-1] + 1] = split.images(chosen).to(device)
    return held
