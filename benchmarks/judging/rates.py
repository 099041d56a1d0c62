"""Measure which learning rates give good models: is the default range where results are?

Each set is trained with every rate of a grid, at each depth, with the other defaults as they are. A rate is good where
the accuracy after the last epoch lies within NEAR of the best rate's of that set and depth. A range is judged by the
share of its rates that are good, and by what it leaves out: on sets that it was not chosen on. A set that no rate
teaches at some depth says nothing about rates there, and is left out, which is told.

    python -m benchmarks.judging.rates [--seconds 3600] [--weights FOLDER]

Trainings are recorded in `results/recorded/rates.jsonl`; a run goes on where the last one ended.
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
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.results import RESULTS, claim, write_result
from benchmarks.training.batch_norm import choose_digits
from benchmarks.training.pretrain import pretrain, train
from chalicelib.recipes.values import LogRange, Ranges
from tests.training.judging.settling.drawing import draw_set

RECORDED = RESULTS / "recorded" / "rates.jsonl"
ARCHITECTURE = "mobilenet_v2"
CHOSEN = {"architecture": ARCHITECTURE, "image_size": 32, "batch_size": 16}
EPOCHS = {"head": 6, "all": 6, "scratch": 20}  # from scratch few sets are learnt at all in six
COUNTS = {"train": 40, "valid": 12, "test": 60}
RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
DEPTHS = ("head", "all", "scratch")
SETTING, COUNTING = ("figures", "stripes", "pets"), ("digits", "letters", "dots")
CLASSES = {"figures": 4, "stripes": 2, "pets": 3, "digits": 10, "letters": 4, "dots": 3}
NEAR = 0.05
Row = dict[str, Any]


def read_files(name: str) -> dict[str, bytes]:
    """Return a set whose validation split is the large one: it is judged after the last epoch."""
    if name == "digits":
        files = choose_digits(10 * COUNTS["train"])
    else:
        with zipfile.ZipFile(io.BytesIO(draw_set(name, COUNTS))) as opened:
            files = {each: opened.read(each) for each in opened.namelist()}
    exchanged = {"valid": "test", "test": "valid", "train": "train"}
    split = [each.partition("/") for each in files]
    return {f"{exchanged[first]}/{rest}": files[f"{first}/{rest}"] for first, _, rest in split}


def measure(folder: Path, name: str, depth: str, rate: float, weights: Path) -> Row:
    """Run one training and return what it reached."""
    own: dict[str, Any] = (
        {"pretrained": "none"} if depth == "scratch" else {"pretrained": "imagenet", "fine_tune": depth}
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        own |= {"horizontal_flip": "false", "learning_rate": rate, "epochs": EPOCHS[depth]}
        accuracy = train(folder, read_files(name), weights, **CHOSEN, **own)
    metrics = [json.loads(line) for line in (folder / "checkpoints/metrics.jsonl").read_text().splitlines()]
    epochs = [each for each in metrics if "valid" in each and "epoch" in each]
    last = epochs[-1]["valid"]["accuracy"]
    print(f"{name}, {depth}, {rate:g}: {accuracy:.3f}, last epoch {last:.3f} on validation", flush=True)
    return {"set": name, "depth": depth, "rate": rate, "test": round(accuracy, 4), "last": round(last, 4)}


def list_cells() -> Iterator[tuple[str, str, float]]:
    return ((name, depth, rate) for depth in DEPTHS for name in (*SETTING, *COUNTING) for rate in RATES)


def record(weights: Path, seconds: float) -> list[Row]:
    """Run what is not recorded yet, until the time is up. Return all rows."""
    rows = [json.loads(line) for line in RECORDED.read_text().splitlines()] if RECORDED.exists() else []
    known, deadline = {(row["set"], row["depth"], row["rate"]) for row in rows}, time.monotonic() + seconds
    RECORDED.parent.mkdir(parents=True, exist_ok=True)
    with RECORDED.open("a", encoding="utf-8") as file, tempfile.TemporaryDirectory() as base:
        for number, (name, depth, rate) in enumerate(list_cells()):
            if (name, depth, rate) in known or time.monotonic() > deadline:
                continue
            rows.append(measure(Path(base) / str(number), name, depth, rate, weights))
            file.write(json.dumps(rows[-1], separators=(",", ":")) + "\n")
            file.flush()
    return rows


def is_learnt(rows: list[Row], name: str, depth: str) -> bool:
    """Return whether the best rate of a set and depth is better than guessing by more than NEAR."""
    best = max(row["last"] for row in rows if (row["set"], row["depth"]) == (name, depth))
    return bool(best > 1 / CLASSES[name] + NEAR)


def is_good(row: Row, rows: list[Row]) -> bool:
    """Return whether a rate reaches what the best one of its set and depth does, all but NEAR."""
    best = max(each["last"] for each in rows if (each["set"], each["depth"]) == (row["set"], row["depth"]))
    return bool(row["last"] >= best - NEAR)


def judge(rows: list[Row], low: float, high: float) -> tuple[float, int]:
    """Return the share of a range's rates that are good, and how many sets and depths have no good one in it."""
    inside = [row for row in rows if low <= row["rate"] <= high]
    left_out = {(row["set"], row["depth"]) for row in rows} - {
        (row["set"], row["depth"]) for row in inside if is_good(row, rows)
    }
    return mean(is_good(row, rows) for row in inside), len(left_out)


def choose_range(rows: list[Row]) -> tuple[float, float]:
    """Return the range that leaves nothing out and has the largest share of good rates; the wider of equal ones."""
    ranges = [(low, high) for low in RATES for high in RATES if high >= 10 * low * 0.9]
    return max(ranges, key=lambda each: (-judge(rows, *each)[1], judge(rows, *each)[0], each[1] / each[0]))


def describe(rows: list[Row]) -> list[Row]:
    """Return the claims: the default range and the one that the first sets choose, counted on the others."""
    pairs = [(name, depth) for name in CLASSES for depth in DEPTHS]
    learnt = {(name, depth) for name, depth in pairs if is_learnt(rows, name, depth)}
    unlearnt = [f"{name}, {depth}" for name, depth in pairs if (name, depth) not in learnt]
    rows = [row for row in rows if (row["set"], row["depth"]) in learnt]
    setting, counting = ([row for row in rows if row["set"] in names] for names in (SETTING, COUNTING))
    usual, chosen = Ranges().learning_rate, choose_range(setting)
    assert isinstance(usual, LogRange)
    claims = []
    for text, (low, high) in {
        "the default range": (usual.min, usual.max),
        "the range that other sets choose": chosen,
    }.items():
        share, left_out = judge(counting, low, high)
        told = f"{text}, {low:g} to {high:g}: share of rates within {NEAR:.0%} of the best"
        least = 0.5 if text.startswith("the default") else None
        claims.append(claim(told, share, "share", at_least=least, left_out=left_out, unlearnt=unlearnt))
    for depth in DEPTHS:
        for rate in RATES:
            own = [row for row in rows if (row["depth"], row["rate"]) == (depth, rate)]
            good = sum(is_good(row, rows) for row in own)
            by_set = {row["set"]: row["last"] for row in own}
            claims.append(
                claim(f"{depth}, rate {rate:g}: good on so many of {len(own)} sets", good, "sets", last=by_set)
            )
    return claims


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judging.rates")
    parser.add_argument("--seconds", type=float, default=3600, help="stop after this long; the next run goes on")
    parser.add_argument("--weights", type=Path, help="a folder with mobilenet_v2.pth, which is made otherwise")
    given = parser.parse_args([] if sys.argv[0].endswith("benchmarks/__main__.py") else None)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as base:
        weights = given.weights or Path(base)
        if not given.weights:
            with contextlib.redirect_stdout(io.StringIO()):
                pretrain(weights, ARCHITECTURE)
        rows, wanted = record(weights, given.seconds), len(list(list_cells()))
    if len(rows) < wanted:
        print(f"{len(rows)} of {wanted} trainings: run it again to go on")
    else:
        write_result("rates", describe(rows), ["torch", "torchvision"])


if __name__ == "__main__":
    main()
