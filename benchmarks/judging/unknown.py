"""Measure how well images of no class are told: on classes that a model has never seen, by the rule that is served.

A third of a set's classes is held out altogether. A model learns the others, settles its rule as a run's final training
does, and is asked about new images of both kinds through the endpoint's code. Every set is asked with several seeds.

    python -m benchmarks.judging.unknown [--quick] [--weights FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
import zipfile
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from benchmarks.judging.sets import SETS, Files, draw_set
from benchmarks.results import claim, write_result
from benchmarks.training.pretrain import TRAINING, Never, pretrain

sys.path += [str(TRAINING), str(TRAINING.parent / "inference")]

import program
from comparing.answers import answer_files, open_source
from job.settings import Hyperparameters
from judging.foreign import settle_unknown
from judging.intervals import find_interval
from judging.unknown import METHODS, choose_references, measure_separation, score
from knowing import read_rule
from learning.baseline import answer_with, make_probe
from learning.preparation import Setup, prepare

from benchmarks.judging.planted import make_job

ARCHITECTURE, SIDE, SEEDS = "resnet18", 32, 3
NAMES = ("digits", "fine-grained", "133 classes")
MOST_CLASSES = 30
CHOSEN = {"architecture": ARCHITECTURE, "image_size": SIDE, "epochs": 4}
Row = dict[str, Any]


def draw_known_and_held_out(name: str, seed: int) -> tuple[Files, Files]:
    """Return the dataset of the classes that are learnt, and the test images of the others, called `held-out`.

    A third of the training images is used for validation, since no rule is made of fewer than 100 images.
    """
    files, rng = draw_set(name, seed), np.random.default_rng([seed, 5])
    labels = [f"{label:03}" for label in rng.permutation(len(SETS[name].counts["train"]))[:MOST_CLASSES]]
    foreign = set(labels[: len(labels) // 3])
    known, others, taken = Files(), Files(), dict.fromkeys(labels, 0)
    for file, data in files.items():
        split, label, rest = file.split("/")
        if label in foreign and split == "test":
            others[f"test/{label}/{rest}"] = data
        elif label in taken and label not in foreign:
            taken[label] += 1
            known[f"{choose_split(split, taken[label])}/{label}/{rest}"] = data
    return known, others


def choose_split(split: str, number: int) -> str:
    """Turn every third training image into one for validation."""
    return "valid" if split == "train" and number % 3 == 0 else split


def ask(setup: Setup, files: Files, path: Path) -> torch.Tensor:
    """Return the network's logits on images that are no part of its dataset."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    with open_source(path, None) as source:
        return answer_files(setup, setup.network, setup.inputs, source, list(files), lambda: False, set())


def measure(folder: Path, weights: Path, name: str, seed: int) -> Row:
    """Train, settle the rule, and return what it makes of both kinds of images."""
    known, others = draw_known_and_held_out(name, seed)
    job = make_job(folder / "known", known, weights)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        session = program.open_session(prepare(job, Hyperparameters(**CHOSEN, seed=seed)), Never(), time.time())
        program.begin(session)
        program.ship(session, Never(), finished=program.train(session, ()))
        setup, logits = session.setup, partial(answer_with, session.setup)
        settle_unknown(
            setup.dataset, job.places.checkpoints, job.places.model / "manifest.json", logits, make_probe(setup)
        )
        foreign, own, train = ask(setup, others, folder / "foreign.zip"), logits("test"), logits("train")
    manifest = json.loads((job.places.model / "manifest.json").read_text())
    rule, references = read_rule(manifest), choose_references(train, setup.dataset.train.labels)
    assert rule
    told = json.loads((job.places.checkpoints / "unknown.json").read_text())
    kept = sum(rule.score(each) >= rule.threshold for each in own)
    passed = sum(rule.score(each) >= rule.threshold for each in foreign)
    separations = {
        each: measure_separation(score(each, own, references), score(each, foreign, references)) for each in METHODS
    }
    right = float((own.argmax(1) == setup.dataset.test.labels).double().mean())
    row = {"set": name, "seed": seed, "method": told["method"], "accuracy": round(right, 4), "images": len(own)}
    row |= {
        "foreign": len(foreign),
        "kept": kept,
        "passed": passed,
        "separations": separations,
        "told": told["measured"],
    }
    print({each: row[each] for each in row if each != "told"}, flush=True)
    return row


def describe(name: str, rows: list[Row]) -> list[Row]:
    """Return the claims about a set."""
    images, kept = sum(row["images"] for row in rows), sum(row["kept"] for row in rows)
    foreign, passed = sum(row["foreign"] for row in rows), sum(row["passed"] for row in rows)
    low, high = find_interval(kept / images, images)
    methods = [row["method"] for row in rows]
    served = [row["separations"][row["method"]] for row in rows]
    told = [row["told"] for row in rows if row["told"]]
    about = {"methods": methods, "seeds": len(rows), "model_accuracy": round(mean(row["accuracy"] for row in rows), 4)}
    claims = [
        claim(
            f"{name}: AUROC of the rule, on classes that it never saw",
            mean(each["auroc"] for each in served),
            "area",
            **about,
        ),
        claim(
            f"{name}: foreign images called known where 95 % of the known are",
            mean(each["fpr_at_95"] for each in served),
            "share",
        ),
        claim(
            f"{name}: known images called known, as served", kept / images, "share", low=low, high=high, images=images
        ),
        claim(f"{name}: foreign images called known, as served", passed / foreign, "share", images=foreign),
    ]
    for method in METHODS:
        area = mean(row["separations"][method]["auroc"] for row in rows)
        claims.append(claim(f"{name}: AUROC by {method}", area, "area"))
    if told:
        claims.append(claim(f"{name}: AUROC that the report tells", mean(each["auroc"] for each in told), "area"))
    return claims


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judging.unknown")
    parser.add_argument("--quick", action="store_true", help="one seed of one set, no result")
    parser.add_argument("--weights", type=Path, help="a folder with resnet18.pth, which is made otherwise")
    given = parser.parse_args([] if sys.argv[0].endswith("benchmarks/__main__.py") else None)
    torch.set_num_threads(1)
    claims: list[Row] = []
    with tempfile.TemporaryDirectory() as base:
        weights = given.weights or Path(base) / "weights"
        if not given.weights:
            with contextlib.redirect_stdout(io.StringIO()):
                pretrain(weights, ARCHITECTURE, side=SIDE)
        for name in NAMES[:1] if given.quick else NAMES:
            seeds = range(1 if given.quick else SEEDS)
            claims += describe(name, [measure(Path(base) / f"{name}-{seed}", weights, name, seed) for seed in seeds])
    if not given.quick:
        write_result("unknown", claims, ["torch", "torchvision"])


if __name__ == "__main__":
    main()
