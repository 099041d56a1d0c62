"""Let any model answer images: from the dataset's cache where that fits, else decoded from the zip in batches."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from images.assembly import Split
from images.decoding.rows import Pixels, Source
from images.early import find_archive, read_wishes
from images.layout import list_entries
from images.pixels import Preprocessing, crop_centre, normalise, open_rgb, to_square
from learning.engine import Stopped, plain
from learning.preparation import JUDGED_PIXELS, Setup, make_inputs
from torch import nn

StopAsked = Callable[[], bool]


def until_stopped(batches: Iterable[torch.Tensor], stop_asked: StopAsked) -> Iterator[torch.Tensor]:
    """Yield the batches; raise Stopped where a stop was asked for or the time is up."""
    for batch in batches:
        if stop_asked():
            raise Stopped
        yield batch


def answer(network: nn.Module, batches: Iterable[torch.Tensor], stop_asked: StopAsked) -> torch.Tensor:
    """Return a network's logits (n, classes) on the CPU, in single precision, as the endpoint answers."""
    network.eval()
    with torch.inference_mode():
        return torch.cat([plain(network(inputs)).cpu() for inputs in until_stopped(batches, stop_asked)])


@contextmanager
def open_source(archive: Path, encoding: str | None) -> Iterator[Source]:
    """Open a zip of images for a while."""
    with zipfile.ZipFile(archive) as opened:
        yield Source(opened, list_entries(opened, encoding))


def answer_split(
    setup: Setup, network: nn.Module, inputs: Preprocessing, split: Split, chosen: torch.Tensor, stop_asked: StopAsked
) -> torch.Tensor:
    """Return a network's logits on the chosen images of a split of this training's dataset.

    inputs: how images become the network's inputs.
    """
    if inputs == setup.inputs:
        batches = (make_inputs(setup, split, part) for part in chosen.split(count_at_once(inputs)))
        return answer(network, batches, stop_asked)
    encoding = read_wishes(setup.chosen).name_encoding
    with open_source(find_archive(setup.job.places.dataset), encoding) as source:
        names = [split.names[number] for number in chosen.tolist()]
        return answer_files(setup, network, inputs, source, names, stop_asked, set())


def answer_files(
    setup: Setup,
    network: nn.Module,
    inputs: Preprocessing,
    source: Source,
    names: Sequence[str],
    stop_asked: StopAsked,
    broken: set[str],
) -> torch.Tensor:
    """Return a network's logits on files of a zip, which are decoded a batch at a time.

    The names of files that cannot be decoded are added to `broken`; their logits mean nothing.
    """
    batches = decode_batches(source, names, inputs, setup.job.threads, broken)
    prepared = (
        normalise(crop_centre(batch.to(setup.device), inputs.image_size), inputs.mean, inputs.std) for batch in batches
    )
    return answer(network, prepared, stop_asked)


def decode_batches(
    source: Source, names: Sequence[str], inputs: Preprocessing, threads: int, broken: set[str]
) -> Iterator[torch.Tensor]:
    """Yield squares of levels (n, 3, resize_size, resize_size), decoded on several threads."""

    def load(name: str) -> Pixels:
        try:
            return to_square(open_rgb(source.read(name)), inputs.resize_size, inputs.interpolation)
        except Exception:  # noqa: BLE001  zipfile and its decompressors raise many kinds
            broken.add(name)
            return np.zeros((3, inputs.resize_size, inputs.resize_size), dtype=np.uint8)

    step = count_at_once(inputs)
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(names), step):
            yield torch.from_numpy(np.stack(list(pool.map(load, names[first : first + step]))))


def count_at_once(inputs: Preprocessing) -> int:
    """Return how many images of this size pass through a network at a time."""
    return max(1, JUDGED_PIXELS // inputs.image_size**2)
