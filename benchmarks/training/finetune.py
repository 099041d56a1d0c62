"""Measure fine-tuning every layer on this machine's processor, decoding included, against torchvision's reference.

Both sides are processes that take turns, on the same photographs, weights, batch and threads; an epoch is its training
and its validation. Ours decodes before the first epoch, the reference in every one. In single precision both use
channels last; then ours trains as it would by itself, against the reference in single precision: its mixed precision is
CUDA's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.results import claim, spread, write_result
from benchmarks.training.photos import unzip, write_photos

ROOT = Path(__file__).parents[2]
CORES = os.cpu_count() or 1
COUNTS = {"train": 128, "valid": 32, "test": 4}
EPOCHS, BATCH, REPEATS, CLASSES = 3, 32, 3, 4
SIDES = ("reference", "single", "best")


def write_weights(folder: Path) -> Path:
    """Write ResNet18's weights as torchvision's file would hold them, but drawn at random: the work is the same."""
    import torch
    from torchvision import models

    torch.manual_seed(0)
    path = folder / "resnet18.pth"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(models.resnet18().state_dict(), path)
    return path


def train_ours(folder: Path, precision: str) -> dict[str, Any]:
    """Prepare and train in this process. The head's fit at the start is no part of it: the reference has none."""
    sys.path.append(str(ROOT / "training"))
    from job.settings import Hyperparameters, Job, Places
    from learning.engine import Progress, fit
    from learning.preparation import make_course, prepare

    names = ("model", "output", "checkpoints", "code")
    places = Places(dataset=folder, weights=folder / "weights", **{name: folder / name for name in names})
    begun = time.perf_counter()
    setup = prepare(Job("finetune", places, CORES, 0), Hyperparameters(epochs=EPOCHS, batch_size=BATCH))
    course = make_course(setup)
    if precision == "single":
        course.learner.precision = None
    ends = [time.perf_counter()]
    fit(
        course.learner,
        course.batches,
        course.validate,
        epochs=EPOCHS,
        patience=0,
        objective="score",
        seed=0,
        progress=Progress(),
        save=lambda _: None,
        report=lambda _: ends.append(time.perf_counter()),
    )
    epochs = [after - before for before, after in pairwise(ends)]
    return {"prepared": ends[0] - begun, "epochs": epochs, "precision": str(course.learner.precision)}


def run(side: str, folder: Path) -> dict[str, Any]:
    """Run a side in a process of its own; return the seconds of the first epoch, with decoding, and of later ones."""
    if side == "reference":
        options = ["--channels-last", "--threads", str(CORES), "--workers", str(CORES), "--batch-size", str(BATCH)]
        places = ["--data", str(folder / "files"), "--weights", str(folder / "weights/resnet18.pth")]
        command = ["-m", "benchmarks.peers.reference", *places, *options, "--epochs", str(EPOCHS)]
    else:
        command = ["-m", "benchmarks.training.finetune", "--side", side, "--folder", str(folder)]
    busy = sum(os.times()[2:4])
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True, cwd=ROOT)
    processor, told = sum(os.times()[2:4]) - busy, json.loads(done.stdout.splitlines()[-1])
    if side == "reference":
        epochs = [each["all"] for each in told["epochs"]]
        return {"first": epochs[0], "later": statistics.fmean(epochs[1:]), "all": sum(epochs), "processor": processor}
    first = told["prepared"] + told["epochs"][0]
    later = statistics.fmean(told["epochs"][1:])
    whole = first + sum(told["epochs"][1:])
    return {"first": first, "later": later, "all": whole, "processor": processor, "precision": told["precision"]}


def describe(name: str, ours: list[dict[str, Any]], peer: list[dict[str, Any]], bar: float) -> list[dict[str, Any]]:
    claims = []
    for part, words in (("all", "decoding and all epochs"), ("first", "the first epoch"), ("later", "a later epoch")):
        own, other = ([each[part] for each in runs] for runs in (ours, peer))
        ratio = statistics.median(other) / statistics.median(own)
        details: dict[str, Any] = {"load": os.getloadavg()[0]}
        for whose, runs in (("ours", ours), ("reference", peer)):
            details[f"{whose}_processor_s"] = spread(each["processor"] for each in runs)  # imports included
        details |= {"ours_s": spread(own), "reference_s": spread(other), "precision": ours[0]["precision"]}
        bound = {"at_least": bar} if part == "all" else {}
        claims.append(claim(f"{name}, {words}: the reference's seconds over ours", ratio, "ratio", **bound, **details))
    return claims


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="few images, one repeat, no result file")
    told = parser.parse_args(None if __name__ == "__main__" else [])
    if told.side:
        print(json.dumps(train_ours(told.folder, told.side)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = {split: max(4, count // 4) for split, count in COUNTS.items()} if told.quick else COUNTS
        write_photos(folder / "dataset.zip", counts, (500, 375), classes=CLASSES)
        unzip(folder / "dataset.zip", folder / "files")
        write_weights(folder / "weights")
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for _ in range(1 if told.quick else REPEATS):
            for side in SIDES:
                runs[side].append(run(side, folder))
                print(side, runs[side][-1], flush=True)
    single = describe("single precision", runs["single"], runs["reference"], 1.05)
    best = describe("ours at its best", runs["best"], runs["reference"], 1.4)
    if told.quick:
        print(json.dumps([*single, *best], indent=1))
        return
    write_result("finetune", [*single, *best], packages=["torch", "torchvision", "pillow"])


if __name__ == "__main__":
    main()
