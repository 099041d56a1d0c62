"""Plan the cases of `make planted`: which fault is in which images, and how the new version differs from the live one.

A case's number decides everything. The faults: labels dealt out at random, at least half of the classes exchanged, and
weights that lost the end of their file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.judging.sets import to_image

COUNTS = {  # images of a class
    "old": {"train": 40, "valid": 12, "test": 40},
    "new": {"train": 12, "valid": 4, "test": 20},
    "hidden": {"test": 60},
}
SETS: Mapping[str, Mapping[str, tuple[int, int, int]]] = {
    "colours": {"red": (190, 60, 60), "green": (60, 190, 60), "blue": (60, 60, 190), "grey": (120, 120, 120)},
    "greys": {"black": (40, 40, 40), "middle": (125, 125, 125), "white": (210, 210, 210)},
    "hues": {
        "red": (200, 50, 50),
        "yellow": (190, 190, 50),
        "green": (50, 190, 50),
        "cyan": (50, 190, 190),
        "blue": (50, 50, 200),
        "pink": (200, 50, 200),
    },
}
FAULTS = ("shuffled", "swapped", "truncated")
HEADS = ("classifier", "fc")
CASES = 40
Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Case:
    """What is planted. `grown`: the new version holds the old images too. `everywhere`: test labels are wrong as well.

    `first`: no model is live, so that only the floor speaks. `gone`: the live model's dataset is not there any more.
    """

    number: int

    @cached_property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng([13, self.number])

    @property
    def fault(self) -> str:
        return FAULTS[self.number % len(FAULTS)] if self.number < CASES else "none"

    @property
    def dataset(self) -> str:
        return list(SETS)[self.number // len(FAULTS) % len(SETS)]

    @property
    def grown(self) -> bool:
        return self.number % 2 == 0

    @property
    def everywhere(self) -> bool:
        return self.number % 4 < 2

    @property
    def first(self) -> bool:
        """Exchanged labels of a first version cannot be told from right ones, by anyone."""
        return self.fault in ("shuffled", "truncated") and self.number % 7 == 0

    @property
    def gone(self) -> bool:
        return self.number % 5 == 0

    def describe(self) -> dict[str, Any]:
        names = ("fault", "dataset", "grown", "everywhere", "first", "gone")
        return {"case": self.number} | {name: getattr(self, name) for name in names}


@cache
def draw_files(name: str, part: str, seed: int) -> Files:
    """Draw a part of a set: soft blobs in the colour of their class."""
    rng, colours = np.random.default_rng([seed, *part.encode()]), SETS[name]
    return {
        f"{split}/{label}/{number:03}.png": draw_blobs(colour, rng)
        for split, count in COUNTS[part].items()
        for label, colour in colours.items()
        for number in range(count)
    }


def draw_blobs(colour: tuple[int, int, int], rng: np.random.Generator) -> bytes:
    noise = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((40, 40), Image.Resampling.BICUBIC)
    return to_image(0.2 * np.asarray(noise, dtype=float) + 0.8 * np.array(colour))


def relabel(files: Files, labels: Mapping[str, str]) -> dict[str, bytes]:
    """Move each named file to another class's folder."""
    moved = {}
    for number, (name, data) in enumerate(files.items()):
        split, _, file = name.split("/")
        moved[f"{split}/{labels[name]}/{number}-{file}"] = data
    return moved


def read_label(name: str) -> str:
    return name.split("/")[1]


def is_reached(name: str, case: Case) -> bool:
    """Return whether the fault is in this image's split."""
    return case.everywhere or not name.startswith("test/")


def shuffle(files: Files, case: Case) -> dict[str, bytes]:
    """Deal the labels out again at random."""
    reached = [name for name in files if is_reached(name, case)]
    dealt = case.rng.permutation([read_label(name) for name in reached])
    return relabel(files, {name: read_label(name) for name in files} | dict(zip(reached, map(str, dealt), strict=True)))


def swap(files: Files, case: Case) -> dict[str, bytes]:
    """Let at least half of the classes exchange their labels in pairs, or in a circle of three."""
    classes = sorted({read_label(name) for name in files})
    chosen = [str(each) for each in case.rng.permutation(classes)[: max(2, len(classes) // 2)]]
    other = dict(zip(chosen, [*chosen[1:], chosen[0]], strict=True))
    labels = {name: other.get(read_label(name), read_label(name)) for name in files if is_reached(name, case)}
    return relabel(files, {name: read_label(name) for name in files} | labels)


def truncate(weights: Path, folder: Path, case: Case) -> Path:
    """Return a channel whose file of weights lost its end: there are zeros or noise in its place."""
    path = next(weights.glob("*.pth"))
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    names = [name for name, value in state.items() if value.is_floating_point() and not name.startswith(HEADS)]
    kept, left = int(len(names) * case.rng.uniform(0.2, 0.8)), case.rng.choice(["zeros", "noise"])
    generator = torch.Generator().manual_seed(case.number)
    for name in names[kept:]:
        noise = 3 * torch.randn(state[name].shape, generator=generator).abs()
        state[name] = noise if left == "noise" else torch.zeros_like(noise)
    folder.mkdir(parents=True)
    torch.save(state, folder / path.name)
    return folder


def make_version(case: Case) -> dict[str, bytes]:
    """Return the files of the new version, with its labels as they are planted."""
    new = draw_files(case.dataset, "new" if case.grown else "old", 1000 + case.number)
    files = {name.replace(".png", "-new.png"): data for name, data in new.items()}
    if case.grown:
        files |= draw_files(case.dataset, "old", 0)
    change = {"shuffled": shuffle, "swapped": swap}.get(case.fault)
    return change(files, case) if change else files
