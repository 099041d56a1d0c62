"""Measure fine-tuning every layer on this machine's processor, decoding included, against torchvision's reference.

Both sides are processes that take turns, on the same photographs, weights, batch and threads; an epoch is its training
and its validation. Ours decodes before the first epoch, the reference in every one. In single precision both use
channels last; then ours trains as it would by itself, against the reference in single precision: its mixed precision is
CUDA's. fastai and ultralytics train the same network on the same photographs with their own loops, heads and schedules.
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
from tests.contracts.toolkits.environments import build_environment

ROOT = Path(__file__).parents[2]
CORES = os.cpu_count() or 1
COUNTS = {"train": 128, "valid": 32, "test": 4}
EPOCHS, BATCH, REPEATS, CLASSES = 3, 32, 3, 4
SIDES = ("reference", "single", "best")
PEERS = ("fastai", "ultralytics")  # in an environment of their own, in single precision as they come


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
    busy = sum(os.times()[2:4])
    done = subprocess.run(build_command(side, folder), capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{side} failed: {done.stderr[-2000:]}")
    processor, told = sum(os.times()[2:4]) - busy, json.loads(done.stdout.splitlines()[-1])
    if side not in ("single", "best"):
        epochs = [each["all"] for each in told["epochs"]]
        return {"first": epochs[0], "later": statistics.fmean(epochs[1:]), "all": sum(epochs), "processor": processor}
    first = told["prepared"] + told["epochs"][0]
    later = statistics.fmean(told["epochs"][1:])
    whole = first + sum(told["epochs"][1:])
    return {"first": first, "later": later, "all": whole, "processor": processor, "precision": told["precision"]}


def build_command(side: str, folder: Path) -> list[str]:
    if side in ("single", "best"):
        return [sys.executable, "-m", "benchmarks.training.finetune", "--side", side, "--folder", str(folder)]
    options = ["--threads", str(CORES), "--workers", str(CORES), "--batch-size", str(BATCH), "--epochs", str(EPOCHS)]
    options += ["--data", str(folder / "files"), "--weights", str(folder / "weights/resnet18.pth")]
    if side == "reference":
        return [sys.executable, "-m", "benchmarks.peers.reference", "--channels-last", *options]
    python = build_environment("peers", ROOT / "benchmarks/peers") / "python"
    return [str(python), "-m", f"benchmarks.peers.{side}_program", *options]


def describe(
    name: str, ours: list[dict[str, Any]], peer: list[dict[str, Any]], bar: float, who: str = "reference"
) -> list[dict[str, Any]]:
    """Return the claims about our seconds and a peer's: in all, of the first epoch, and of a later one."""
    claims = []
    for part, words in (("all", "decoding and all epochs"), ("first", "the first epoch"), ("later", "a later epoch")):
        own, other = ([each[part] for each in runs] for runs in (ours, peer))
        one, two = statistics.median(own), statistics.median(other)
        details: dict[str, Any] = {"load": os.getloadavg()[0]}
        for whose, runs in (("ours", ours), (who, peer)):
            details[f"{whose}_processor_s"] = spread(each["processor"] for each in runs)  # imports included
        details |= {"ours_s": spread(own), f"{who}_s": spread(other), "precision": ours[0]["precision"]}
        details |= {"peer": who, "ours": f"{one:.1f} s", "theirs": f"{two:.1f} s"}
        bound = {"at_least": bar} if part == "all" else {}
        claims.append(claim(f"{name}, {words}: {who}'s seconds over ours", two / one, "ratio", **bound, **details))
    return claims


def compare_peers(runs: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the claims about the faster of the other libraries, and the figure of the slower one beside them."""
    fast, slow = sorted(PEERS, key=lambda side: statistics.median(each["all"] for each in runs[side]))
    beside = describe("ours at its best", runs["best"], runs[slow], 0, slow)[0] | {"at_least": None, "holds": None}
    return [*describe("ours at its best", runs["best"], runs[fast], 1.2, fast), beside]


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
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in (*SIDES, *PEERS)}
        for _ in range(1 if told.quick else REPEATS):  # all is written each time: who is cut short has what there is
            for side in runs:
                runs[side].append(run(side, folder))
                print(side, runs[side][-1], flush=True)
            claims = state_claims(runs)
            if not told.quick:
                write_result("finetune", claims, packages=["torch", "torchvision", "pillow"])
    if told.quick:
        print(json.dumps(claims, indent=1))


def state_claims(runs: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    single = describe("single precision", runs["single"], runs["reference"], 1.05)
    best = describe("ours at its best", runs["best"], runs["reference"], 1.4)
    return [*single, *best, *compare_peers(runs), claim("repeats", len(runs["best"]), "turns")]


if __name__ == "__main__":
    main()
