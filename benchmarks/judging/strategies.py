"""Judge search strategies by replaying recorded tables of trials: which one finds the better model in 6 and 12 trials?

    python -m benchmarks.judging.strategies            record what is missing, replay, write the result
    python -m benchmarks.judging.strategies --quick    short tables and few replays, no result

A table holds configurations that were drawn at random from the default ranges, each with its score on validation and
its accuracy on the test split. Heads are trained on features of a network that was pretrained on generated patterns,
on five sets; one more table is of trainings of every layer. Recording resumes: tables lie in `results/strategies/`. A
replay lets the local cloud's tuner propose points. For each point the tuner gets the result of the nearest recorded
configuration that it has not been given yet.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import random
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.results import RESULTS, claim, write_result
from benchmarks.training.batch_norm import choose_digits
from benchmarks.training.pretrain import pretrain, train
from localcloud.sagemaker.tuning.search import Range, Search, Trial, make_seed, suggest
from tests.training.judging.settling.drawing import draw_set

FOLDER = RESULTS / "strategies"
HEADS, WHOLE, REPLAYS = 200, 60, 500
TRIALS = (6, 12)
CHOSEN: dict[str, Any] = {"architecture": "mobilenet_v2", "image_size": 32, "epochs": 8}
COUNTS = {"train": 40, "valid": 12, "test": 60}
SETS = ("digits", "figures", "letters", "stripes", "dots")
RANGES = (
    Range("learning_rate", "float", 0.1, 10.0, "Logarithmic"),
    Range("weight_decay", "float", 1e-5, 0.1, "Logarithmic"),
    Range("batch_size", "categorical", choices=("16", "32", "64")),
)

Row = dict[str, Any]


def draw_configuration(number: int) -> dict[str, str]:
    """Draw a configuration from the ranges; the same one for the same number."""
    dice, drawn = random.Random(make_seed("table", number)), {}
    for item in RANGES:
        if item.kind == "categorical":
            drawn[item.name] = dice.choice(item.choices)
        else:
            drawn[item.name] = repr(math.exp(dice.uniform(math.log(item.low), math.log(item.high))))
    return drawn


def read_files(name: str) -> dict[str, bytes]:
    if name == "digits":
        return choose_digits(10 * COUNTS["train"])
    with zipfile.ZipFile(io.BytesIO(draw_set(name, COUNTS))) as opened:
        return {each: opened.read(each) for each in opened.namelist()}


def record(table: str, files: dict[str, bytes], weights: Path, depth: str, count: int) -> list[Row]:
    """Train what the table still lacks, and return it. Each row is written as soon as it is known."""
    path = FOLDER / f"{table}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    with path.open("a", encoding="utf-8") as file, tempfile.TemporaryDirectory() as base:
        for number in range(len(rows), count):
            rows.append(measure(Path(base) / str(number), files, weights, depth, draw_configuration(number)))
            file.write(json.dumps(rows[-1]) + "\n")
            file.flush()
    return rows[:count]


def measure(folder: Path, files: dict[str, bytes], weights: Path, depth: str, drawn: dict[str, str]) -> Row:
    """Run one training and return its configuration with what it reached."""
    chosen = {"learning_rate": float(drawn["learning_rate"]), "weight_decay": float(drawn["weight_decay"])}
    chosen |= {"batch_size": int(drawn["batch_size"]), "fine_tune": depth, "pretrained": "imagenet"}
    with contextlib.redirect_stdout(io.StringIO()):
        accuracy = train(folder, files, weights, horizontal_flip="false", **CHOSEN, **chosen)
    told = json.loads((folder / "checkpoints/evaluation.json").read_text())
    return {"drawn": drawn, "valid": told["objective"]["value"], "test": accuracy}


def replay(rows: Sequence[Row], strategy: str, seed: int) -> list[float]:
    """Return the test accuracy of the best trial so far by validation, after each trial."""
    search = Search("replay", strategy, RANGES, True, seed)
    left, history, reached = list(range(len(rows))), list[Trial](), list[float]()
    best = (-math.inf, 0.0)
    for _ in range(max(TRIALS)):
        wanted = suggest(search, history)
        assert wanted is not None
        taken = min(left, key=lambda number: measure_distance(rows[number]["drawn"], wanted))
        left.remove(taken)
        row = rows[taken]
        history.append(Trial(row["drawn"], "finished", [row["valid"]]))
        best = max(best, (row["valid"], row["test"]))
        reached.append(best[1])
    return reached


def measure_distance(one: dict[str, str], other: dict[str, str]) -> float:
    """Return how far two configurations lie apart, each range counting as one unit."""
    return sum(each**2 for each in list_distances(one, other))


def list_distances(one: dict[str, str], other: dict[str, str]) -> Iterator[float]:
    for item in RANGES:
        if item.kind == "categorical":
            yield float(one[item.name] != other[item.name])
        else:
            yield math.log(float(one[item.name]) / float(other[item.name])) / math.log(item.high / item.low)


def compare(rows: Sequence[Row], replays: int) -> dict[int, tuple[float, float]]:
    """Return by how many points Bayesian beats Random after so many trials, and half of the 95 % interval."""
    gains: dict[int, list[float]] = {trials: [] for trials in TRIALS}
    for seed in range(replays):
        one, other = (replay(rows, strategy, seed) for strategy in ("Bayesian", "Random"))
        for trials in TRIALS:
            gains[trials].append(100 * (one[trials - 1] - other[trials - 1]))
    return {trials: (mean(values), 1.96 * stdev(values) / math.sqrt(len(values))) for trials, values in gains.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    heads, whole, replays = (12, 12, 5) if quick else (HEADS, WHOLE, REPLAYS)
    with tempfile.TemporaryDirectory() as base:
        weights = Path(base) / "weights"
        with contextlib.redirect_stdout(io.StringIO()):
            pretrain(weights, str(CHOSEN["architecture"]))
        tables = {name: record(name, read_files(name), weights, "head", heads) for name in SETS}
        tables["digits, every layer"] = record("whole", read_files("digits"), weights, "all", whole)
    claims = []
    for name, rows in tables.items():
        for trials, (gain, half) in compare(rows, replays).items():
            text = f"{name}: points of test accuracy by Bayesian over Random after {trials} trials, ± {half:.2f} (95 %)"
            claims.append(claim(text, gain, "points"))
            print(text, round(gain, 2), flush=True)
    if not quick:
        write_result("strategies", claims, ["torch", "optuna"])


if __name__ == "__main__":
    main()
