"""Make tiny trainings for `benchmarks.judging.rules`: healthy ones, and one way to break each.

A toy's name decides all of it: `COLLECTION/KIND/NUMBER`, where KIND is `healthy` or the rule that the fault is for.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits
from torch import nn

SIDE = 16
# Every training draws from this number and its name. Raise it for new collections: rules that were changed after a
# count are to be counted on trainings that nobody has counted before.
DRAW = 3
DRAWN_AGAIN = {"Confusion": 4}  # kinds that are provoked in another way since, and were counted on another draw
RATE = 2e-3  # what the training program takes without pretrained weights
VALID, TEST, STEPS = 600, 300, 120
BATCHES, TRIALS = (16, 32, 64), 6
Pixels = np.ndarray[Any, Any]
Split = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Toy:
    """One training; `default` is the same with default hyperparameters, where a baseline is wanted.

    `rivals`: trials with other hyperparameters. The best of all on validation is what is trained, as in a run.
    """

    images: torch.Tensor
    labels: torch.Tensor
    valid: Split
    test: Split
    classes: int
    seed: int
    build: Callable[[], nn.Module]
    rate: float
    batch: int
    epochs: int
    default: Toy | None = None
    rivals: tuple[Toy, ...] = ()


def draw_shape(label: int, rng: np.random.Generator) -> Pixels:
    """A bar, a disc or a ring near the middle."""
    down, across = np.mgrid[0:SIDE, 0:SIDE] - SIDE / 2 + rng.uniform(-3, 3, (2, 1, 1))
    radius = np.hypot(down, across)
    masks = (abs(across) < 2, radius < 5, abs(radius - 5) < 1.5)
    return masks[label] * rng.uniform(0.3, 1.0) + rng.normal(0, 0.25, (SIDE, SIDE))


def draw_grating(label: int, rng: np.random.Generator) -> Pixels:
    """Stripes in one of eight directions."""
    down, across = np.mgrid[0:SIDE, 0:SIDE]
    angle = np.pi * (label + rng.normal(0, 0.1)) / 8
    wave = np.sin(2 * np.pi * (across * np.cos(angle) + down * np.sin(angle)) / 5 + rng.uniform(0, 6.3))
    return wave * rng.uniform(0.5, 1.0) + rng.normal(0, 0.4, (SIDE, SIDE))


def draw_slope(label: int, rng: np.random.Generator) -> Pixels:
    """Light that falls off towards one of four sides, or not at all."""
    down, across = (np.mgrid[0:SIDE, 0:SIDE] - SIDE / 2) / SIDE
    slopes = (down, -down, across, -across, 0 * down)
    return slopes[label] * rng.uniform(0.5, 1.5) + rng.normal(0, 0.5, (SIDE, SIDE))


def draw_corner(label: int, rng: np.random.Generator) -> Pixels:
    """A faint spot in one of five places, which is not always to be told from noise."""
    places = ((4, 4), (4, 12), (12, 4), (12, 12), (8, 8))
    down, across = np.mgrid[0:SIDE, 0:SIDE]
    y, x = (place + rng.normal(0, 1.2) for place in places[label])
    return rng.uniform(0.5, 1.2) * np.exp(-((down - y) ** 2 + (across - x) ** 2) / 8) + rng.normal(
        0, 0.35, (SIDE, SIDE)
    )


def draw_letter(label: int, rng: np.random.Generator) -> Pixels:
    """A letter, a little turned and moved."""
    image = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(image).text(
        (4 + rng.uniform(-2, 2), 1 + rng.uniform(-2, 2)), "ABCDEFGH"[label], 255, ImageFont.load_default()
    )
    turned = image.rotate(rng.uniform(-20, 20), Image.Resampling.BILINEAR)
    return np.asarray(turned) / 255 * rng.uniform(0.6, 1.0) + rng.normal(0, 0.2, (SIDE, SIDE))


def draw_texture(label: int, rng: np.random.Generator) -> Pixels:
    """A random pattern of one of four grains."""
    grain = (3, 5, 8, 12)[label]
    image = Image.fromarray(rng.normal(0, 1, (grain, grain)).astype(np.float32))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) + rng.normal(0, 0.5, (SIDE, SIDE))


# The nine points of a square, numbered in rows, and the lines between them.
SIGNS = ((0, 8, 2, 6), (1, 7, 3, 5), (0, 2, 2, 8), (0, 6, 6, 8), (0, 2, 1, 7), (0, 6, 3, 5))


def draw_sign(label: int, rng: np.random.Generator) -> Pixels:
    """One of six signs of two lines, in some place and size, faint."""
    image = Image.new("L", (SIDE, SIDE))
    middle, half = rng.uniform(5, 10, 2), rng.uniform(3, 4.5)
    points = [tuple(middle + half * (np.array([at % 3, at // 3]) - 1)) for at in SIGNS[label]]
    for line in (points[:2], points[2:]):
        ImageDraw.Draw(image).line(line, fill=255, width=1)
    return np.asarray(image) / 255 * rng.uniform(0.5, 1.0) + rng.normal(0, 0.2, (SIDE, SIDE))


def draw_template(label: int, rng: np.random.Generator) -> Pixels:
    """One of ten fixed coarse patterns, moved a little, in much noise."""
    pattern = np.kron(np.random.default_rng(label).normal(0, 1, (5, 5)), np.ones((4, 4)))
    down, across = rng.integers(0, 5, 2)
    moved = pattern[down : down + SIDE, across : across + SIDE]
    return moved * rng.uniform(0.5, 1.0) + rng.normal(0, 1.0, (SIDE, SIDE))


def draw_digit(label: int, rng: np.random.Generator) -> Pixels:
    """A scanned digit, doubled in size."""
    digits = load_digits()
    chosen = rng.choice(np.flatnonzero(digits.target == label))
    return np.kron(digits.images[chosen] / 16, np.ones((2, 2))) + rng.normal(0, 0.05, (SIDE, SIDE))


Draw = Callable[[int, np.random.Generator], Pixels]


def veil(draw: Draw, noise: float) -> Draw:
    """Return what draws the same images with more noise: a kind that is harder to learn."""

    def draw_veiled(label: int, rng: np.random.Generator) -> Pixels:
        return draw(label, rng) + rng.normal(0, noise, (SIDE, SIDE))

    return draw_veiled


COLLECTIONS: dict[str, list[tuple[Draw, int]]] = {
    "setting": [
        (draw_shape, 3),
        (draw_grating, 8),
        (draw_slope, 5),
        (draw_texture, 4),
        (draw_sign, 6),
        (draw_template, 10),
        (veil(draw_shape, 0.6), 3),
        (veil(draw_grating, 0.4), 8),
        (veil(draw_slope, 0.7), 5),
        (veil(draw_texture, 0.2), 4),
        (veil(draw_sign, 0.15), 6),
        (veil(draw_template, 0.7), 10),
    ],
    "counting": [(draw_digit, 10), (draw_corner, 5), (draw_letter, 8)],
}


def draw_split(draw: Draw, counts: list[int], rng: np.random.Generator) -> Split:
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    images = np.stack([draw(int(label), rng) for label in labels]).astype(np.float32)
    return torch.tensor(images)[:, None], torch.tensor(labels)


def share_out(images: int, classes: int) -> list[int]:
    return [images // classes + (number < images % classes) for number in range(classes)]


def build_network(classes: int, seed: int, width: int = 12) -> nn.Sequential:
    """A convolutional network with normalisation, a tanh and two linear layers."""
    torch.manual_seed(seed)
    body = (nn.Conv2d(1, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.Tanh())
    return nn.Sequential(
        *body, nn.Flatten(), nn.Linear(16 * width, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, classes)
    )


def build_deep(classes: int, seed: int) -> nn.Sequential:
    """Nine narrow layers of sigmoids whose weights are far too small, without normalisation."""
    torch.manual_seed(seed)
    layers = [layer for _ in range(8) for layer in (nn.Linear(24, 24), nn.Sigmoid())]
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 24), nn.Sigmoid(), *layers, nn.Linear(24, classes))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(0.03)
    return network


def make_toy(name: str) -> Toy:
    """Make the training of this name."""
    collection, kind, number = name.split("/")
    rng = np.random.default_rng([DRAWN_AGAIN.get(kind, DRAW), zlib.crc32(name.encode())])
    kinds, seed = COLLECTIONS[collection], int(rng.integers(2**31))
    draw, classes = kinds[int(number) % len(kinds)]
    images = int(rng.integers(40, 80)) * classes if classes < 8 else int(rng.integers(20, 50)) * classes
    batch = int(rng.choice(BATCHES))
    steps = -(-images // batch)
    epochs = max(int(rng.integers(6, 14)), -(-STEPS // steps))
    train, valid, test = (draw_split(draw, share_out(size, classes), rng) for size in (images, VALID, TEST))
    rate = RATE * float(10 ** rng.uniform(-0.3, 0.3))
    toy = Toy(*train, valid, test, classes, seed, lambda: build_network(classes, seed), rate, batch, epochs)
    if kind == "healthy":
        rivals = tuple(draw_rival(toy, rng) for _ in range(TRIALS - 1))
        default = replace(toy, rate=RATE, batch=32)
        return replace(toy, default=default, rivals=tuple(replace(each, default=default) for each in rivals))
    # A fault is provoked in a training that is sound otherwise.
    plain = replace(toy, rate=RATE, batch=32)
    return FAULTS[kind](plain, draw, rng)


def draw_rival(toy: Toy, rng: np.random.Generator) -> Toy:
    """Draw other hyperparameters for the same epochs."""
    return replace(toy, batch=int(rng.choice(BATCHES)), rate=RATE * float(10 ** rng.uniform(-0.3, 0.3)))


Fault = Callable[[Toy, Draw, np.random.Generator], Toy]


def harm(toy: Toy, change: Callable[[Any], Any]) -> Toy:
    """Change the network before its first step."""

    def build() -> nn.Module:
        network = build_network(toy.classes, toy.seed)
        with torch.no_grad():
            change(network)
        return network

    return replace(toy, build=build)


def zero_two_layers(network: Any) -> None:
    """Two layers of zeros in a row get no gradient, and stay zero."""
    for layer in (network[8], network[10]):
        layer.weight.zero_()
        layer.bias.zero_()


def shuffle_labels(toy: Toy, rng: np.random.Generator, share: float = 1.0) -> Toy:
    """Give a share of the training images the labels of others."""
    labels = toy.labels.numpy().copy()
    chosen = rng.permutation(len(labels))[: round(share * len(labels))]
    labels[chosen] = labels[rng.permutation(chosen)]
    return replace(toy, labels=torch.tensor(labels))


def deal_labels(toy: Toy, rng: np.random.Generator) -> Toy:
    """Give the training images of each class every label equally often: a random order would leave a trace of them.

    So would images that are left over, and these are left out.
    """
    labels, kept = toy.labels.clone(), []
    for label in range(toy.classes):
        own = rng.permutation(np.flatnonzero(toy.labels.numpy() == label))
        own = own[: len(own) // toy.classes * toy.classes]
        labels[own] = torch.tensor(np.arange(len(own)) % toy.classes)
        kept.extend(own.tolist())
    chosen = torch.tensor(sorted(kept))
    return replace(toy, images=toy.images[chosen], labels=labels[chosen])


def mix_two_classes(toy: Toy, rng: np.random.Generator) -> Toy:
    """Let the labels of the first two classes be a matter of chance, in all splits."""

    def mix(labels: torch.Tensor) -> torch.Tensor:
        return torch.where(labels < 2, torch.tensor(rng.integers(0, 2, len(labels))), labels)

    valid, test = ((images, mix(labels)) for images, labels in (toy.valid, toy.test))
    return replace(toy, labels=mix(toy.labels), valid=valid, test=test)


def confuse(toy: Toy, draw: Draw, rng: np.random.Generator) -> Toy:
    """Mix two classes, with enough images and epochs that the others are told apart: else nothing stands out."""
    images, labels = draw_split(draw, [100] * toy.classes, rng)
    mixed = mix_two_classes(replace(toy, images=images, labels=labels), rng)
    return replace(mixed, epochs=max(16, toy.epochs))


def make_rare(toy: Toy, draw: Draw, rng: np.random.Generator) -> Toy:
    """Leave one class with a nineteenth of the images of another."""
    counts = [95] * (toy.classes - 1) + [5]
    images, labels = draw_split(draw, counts, rng)
    return replace(toy, images=images, labels=labels)


def mislabel(toy: Toy, draw: Draw, rng: np.random.Generator) -> Toy:
    """Give half of the images a random label, and many epochs to learn these by heart.

    There are enough images that something is learnt before: of fewer nothing carries over, and NearChance is as right
    as Overfit is.
    """
    images, labels = draw_split(draw, [100] * toy.classes, rng)
    return replace(shuffle_labels(replace(toy, images=images, labels=labels), rng, 0.5), epochs=60, batch=16)


def make_long(toy: Toy, draw: Draw, rng: np.random.Generator) -> Toy:
    """Train for so long that nothing is left to learn: of two classes that are easily told apart."""

    def draw_easy(label: int, rng: np.random.Generator) -> Pixels:
        return draw(0, rng) * 0.3 + label

    train, valid, test = (draw_split(draw_easy, [size // 2] * 2, rng) for size in (120, VALID, TEST))
    return Toy(*train, valid, test, 2, toy.seed, lambda: build_network(2, toy.seed), toy.rate, toy.batch, 50)


def make_blank(toy: Toy) -> Toy:
    """Take everything out of the images."""
    blank = lambda images: torch.zeros_like(images)  # noqa: E731
    valid, test = ((blank(images), labels) for images, labels in (toy.valid, toy.test))
    return replace(toy, images=blank(toy.images), valid=valid, test=test)


FAULTS: dict[str, Fault] = {
    "ExplodingTensor": lambda toy, _, __: replace(toy, rate=1e25),
    "AllZero": lambda toy, _, __: harm(toy, zero_two_layers),
    "SaturatedActivation": lambda toy, _, __: harm(toy, lambda network: network[3].weight.mul_(1e4)),
    "DeadRelu": lambda toy, _, __: harm(toy, lambda network: network[8].bias.fill_(-100)),
    "VanishingGradient": lambda toy, _, __: replace(toy, build=lambda: build_deep(toy.classes, toy.seed)),
    "PoorWeightInitialization": lambda toy, _, __: harm(toy, lambda network: network[8].weight.mul_(1000)),
    "UnchangedTensor": lambda toy, _, __: replace(toy, rate=1e-12),
    "TinyBatch": lambda toy, _, rng: replace(toy, batch=int(rng.integers(2, 5))),
    "LearningRateTooHigh": lambda toy, _, rng: replace(toy, rate=RATE * float(10 ** rng.uniform(2, 3))),
    "WeightUpdateRatio": lambda toy, _, __: harm(toy, lambda network: network[0].weight.mul_(1e-6)),
    "ClassImbalance": make_rare,
    "LossNotDecreasing": lambda toy, _, __: make_blank(toy),
    "NearChance": lambda toy, _, rng: replace(deal_labels(toy, rng), epochs=2 * toy.epochs),
    "Overfit": mislabel,
    "Overtraining": make_long,
    "Confusion": confuse,
    "WorseThanBaseline": lambda toy, _, __: replace(toy, rate=RATE * 0.03, default=toy),
}
