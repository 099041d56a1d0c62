"""Settle `horizontal_flip`: measure what mirroring changes, on at most a few hundred images and before any training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from images.assembly import Split
from images.augment import DRAWS, augment
from job.metrics import log
from learning.features import cut_before, run_to_head
from learning.model import find_normalisation
from learning.preparation import Setup, is_head_alone, make_inputs

from judging.deciding.mirroring import Features, Mirroring, decide_mirroring

MOST_TRAIN, MOST_VALID = 1000, 300
BATCH = 64


def settle_mirroring(setup: Setup) -> Setup:
    """Return the setup with `horizontal_flip` true or false, and with the reason among its choices."""
    asked, measured = setup.chosen.horizontal_flip, None
    if asked != "auto":
        taken, why = asked == "true", "the recipe says so"
    elif is_head_alone(setup):
        taken, why = False, "a head is trained on features, without augmentation"
    elif not setup.dataset.photographs:
        taken, why = False, "small or grey images may be letters, digits or scans"
    else:
        measured = measure_mirroring(setup)
        taken, why = measured.taken, explain(measured)
    log(f"horizontal_flip={str(taken).lower()}: {why}")
    choice = {"asked": asked, "taken": taken, "why": why, **(measured.describe() if measured else {})}
    chosen = replace(setup.chosen, horizontal_flip=str(taken).lower())
    return replace(setup, chosen=chosen, choices={**setup.choices, "horizontal_flip": choice})


def explain(measured: Mirroring) -> str:
    """Return the reason in words."""
    if not measured.able:
        return f"on {measured.images} validation images a fitted head is no better than chance, so nothing can be told"
    told = "no less" if measured.taken else "less, or perhaps less,"
    figures = f"{measured.mirrored:.1%} against {measured.augmented:.1%} on {measured.images} validation images"
    return f"from mirror images a head learns {told} than from other changes: the right class has {figures}"


def measure_mirroring(setup: Setup) -> Mirroring:
    """Compare what a head learns from mirror images with what it learns from the other augmentations."""
    data, seed = setup.dataset, setup.chosen.seed
    train, valid = mix(len(data.train), seed, MOST_TRAIN), mix(len(data.valid), seed, MOST_VALID)
    generator = torch.Generator().manual_seed(seed)
    features = Features(
        describe(setup, (make_inputs(setup, data.train, part) for part in train)),
        describe(setup, (make_inputs(setup, data.train, part).flip(-1) for part in train)),
        describe(setup, (make_varied(setup, data.train, part, generator) for part in train)),
        data.train.labels[torch.cat(train)],
    )
    judged = describe(setup, (make_inputs(setup, data.valid, part) for part in valid))
    return decide_mirroring(features, judged, data.valid.labels[torch.cat(valid)])


def mix(count: int, seed: int, most: int) -> list[torch.Tensor]:
    """Draw numbers below count, at most so many, in batches: in the images' order a batch would hold one class."""
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most]
    return list(drawn.tensor_split(-(-len(drawn) // BATCH)))


def make_varied(setup: Setup, split: Split, chosen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return the chosen images as a training sees them, but for mirroring."""
    how: dict[str, Any] = {"mean": setup.inputs.mean, "std": setup.inputs.std, "turn": setup.turned}
    images, chance = split.images(chosen), torch.rand((len(chosen), DRAWS), generator=generator)
    return augment(images.to(setup.device), chance.to(setup.device), size=setup.chosen.image_size, flip=False, **how)


def describe(setup: Setup, batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return one row of features for each image, whatever the form of the head's input."""
    with cut_before(setup.network, setup.head), own_statistics(setup):
        features = torch.cat([run_to_head(setup.network, batch) for batch in batches])
    return features.flatten(2).mean(2) if features.ndim > 2 else features


@contextmanager
def own_statistics(setup: Setup) -> Iterator[None]:
    """Let batch normalisation use each batch's own statistics where it has learnt none, and leave no trace of it.

    Without them a deep network of random weights has the same features for every image.
    """
    layers = find_normalisation(setup.network) if setup.pretrained == "none" else []
    kept = [(layer, layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.train()
        layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, momentum, seen in kept:
            layer.eval()
            layer.momentum, layer.num_batches_tracked = momentum, seen
