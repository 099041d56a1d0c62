"""Plan the cases of `make planted`: which fault is in which images, and how the new version differs from the live one.

A case's number decides everything. The faults: labels dealt out at random, at least half of the classes exchanged, and
weights that lost the end of their file.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.models import get_model

from benchmarks.judging.sets import SHAPES, draw_one_of_many
from benchmarks.training.pretrain import TRAINING

sys.path.append(str(TRAINING))

from tests.training.comparing.compared import COLOURS
from tests.training.comparing.compared import draw_files as draw_blobs
from tests.training.judging.settling.drawing import draw_set

COUNTS = {  # images of a class
    "old": {"train": 40, "valid": 12, "test": 40},
    "new": {"train": 12, "valid": 4, "test": 20},
    "hidden": {"test": 60},
}
SETS = ("blobs", "pets", "discs")
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
        return SETS[self.number // len(FAULTS) % len(SETS)]

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
    """Draw a part of a set: soft blobs, animals seen from the side, or discs, whose colour is their class."""
    if name == "blobs":
        return draw_blobs(tuple(COLOURS), first=1000 * seed, counts=COUNTS[part])
    if name == "discs":
        rng, numbers = (
            np.random.default_rng(seed),
            [(split, n) for split, count in COUNTS[part].items() for n in range(count)],
        )
        return {
            f"{split}/{hue}/{n:03}.png": draw_one_of_many(3 * SHAPES * hue, rng)
            for hue in range(6)
            for split, n in numbers
        }
    with zipfile.ZipFile(io.BytesIO(draw_set(name, COUNTS[part], seed))) as opened:
        return {each: opened.read(each) for each in opened.namelist()}


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
    """Return a channel whose file of weights lost its end: what follows is zeros, noise, or fresh weights."""
    path = next(weights.glob("*.pth"))
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    names = [name for name, value in state.items() if value.is_floating_point() and not name.startswith(HEADS)]
    kept, left = int(len(names) * case.rng.uniform(0.2, 0.8)), case.rng.choice(["nothing", "noise", "chance"])
    torch.manual_seed(case.number)
    fresh = get_model(path.stem, weights=None).state_dict()
    for name in names[kept:]:
        noise = 3 * torch.randn(state[name].shape).abs()
        state[name] = {"nothing": torch.zeros_like(noise), "noise": noise, "chance": fresh[name]}[str(left)]
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
