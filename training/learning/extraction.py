"""Compute the features of a frozen backbone once for all jobs of a machine, with the same bits whoever computes them.

A split is computed in batches of a fixed number of images, each in one thread: their features depend on the images, the
weights and the machine alone, and neither on how many threads a job has nor on which job computed them. That costs
nothing: several threads with a batch each are as fast as one batch on several threads. A chunk is what is kept at once:
a batch, or several where there would be very many, so that a small split keeps all threads busy.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from caching.sharing import share
from caching.store import Array, Store
from job.settings import TrainingError
from torch import nn

from learning.features import cut_before, run_to_head

MOST_CHUNKS = 256
LARGEST = 1e8  # of a feature: torchvision's weights give less than a hundred
LIBRARIES = ("torch", "torchvision", "pillow", "numpy")
# The images of a split: what makes the network's input of image numbers, and their hashes.
Images = tuple[Callable[[torch.Tensor], torch.Tensor], Sequence[str]]


def check_features(features: torch.Tensor, architecture: str) -> torch.Tensor:
    """Return features that make sense. Raise TrainingError for others: the file of weights must be damaged."""
    if bool((features.abs() < LARGEST).all()):
        return features
    raise TrainingError(
        f"the weights of {architecture} give features that are infinite or far too large, so their file must be "
        f"damaged; put it into the bucket again (make weights ARCH={architecture})"
    )


@dataclass(frozen=True)
class Extractor:
    """A frozen backbone, and what its features depend on besides the images.

    batch: how many images pass through the network at a time. about: plain data that says how images become inputs.
    """

    network: nn.Module
    head: nn.Module
    device: torch.device
    batch: int
    about: dict[str, Any]
    store: Store | None
    workers: int
    most_chunks: int = MOST_CHUNKS

    def extract(self, inputs: Callable[[torch.Tensor], torch.Tensor], hashes: Sequence[str]) -> torch.Tensor:
        """Return the head's input for each image: (n, features). inputs: makes the network's input of image numbers."""
        return self.extract_all([(inputs, hashes)])[0]

    def extract_all(self, splits: Sequence[Images]) -> list[torch.Tensor]:
        """Return the features of several splits, computed in one go: nobody waits for the last chunk of each."""
        cut = [torch.arange(len(hashes)).split(self.choose_chunk(len(hashes))) for _, hashes in splits]
        pieces = [(split, chunk) for split, chunks in zip(splits, cut, strict=True) for chunk in chunks]
        keys = self.name_chunks([[hashes[number] for number in chunk.tolist()] for (_, hashes), chunk in pieces])

        def compute(number: int) -> Array:
            (inputs, _), chunk = pieces[number]
            made: Array = self.compute(inputs, chunk).numpy()
            return made

        with cut_before(self.network, self.head), one_thread_each():
            arrays = share(self.store, keys, compute, workers=self.workers, begin=os.getpid() % len(pieces))
        found = iter(torch.tensor(array) for array in arrays)
        return [torch.cat([next(found) for _ in chunks]) for chunks in cut]

    def choose_chunk(self, images: int) -> int:
        """Return how many images are computed and kept at once: a multiple of the batch, which leaves their bits."""
        return self.batch * max(1, -(-images // (self.batch * self.most_chunks)))

    def compute(self, inputs: Callable[[torch.Tensor], torch.Tensor], chunk: torch.Tensor) -> torch.Tensor:
        return torch.cat([run_to_head(self.network, inputs(part).to(self.device)) for part in chunk.split(self.batch)])

    def name_chunks(self, hashes: Sequence[Sequence[str]]) -> list[str]:
        """Return the key of each chunk; without a store nobody needs them."""
        if self.store is None:
            return [""] * len(hashes)
        common = describe_backbone(self)
        return [name_key({**common, "images": list(chunk)}) for chunk in hashes]


def name_key(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def describe_backbone(extractor: Extractor) -> dict[str, Any]:
    """Return everything besides the images that the bits of features depend on."""
    return {
        **extractor.about,
        "libraries": {name: version(name) for name in LIBRARIES},
        "weights": hash_weights(extractor.network, extractor.head),
        "batch": extractor.batch,
        "dtype": "float32",
        "memory_format": "channels_last",
        "machine": describe_machine(extractor.device),
    }


def describe_machine(device: torch.device) -> str:
    """Return the GPU's model, or the processor's instruction set: others compute other bits."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()


def hash_weights(network: nn.Module, head: nn.Module) -> str:
    """Hash all parameters and buffers of a network but those of its head."""
    own = {id(value) for value in [*head.parameters(), *head.buffers()]}
    hashed = hashlib.sha256()
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        if id(value) not in own:
            hashed.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()


@contextmanager
def one_thread_each() -> Any:
    """Let each thread compute by itself, and restore the number of threads afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
