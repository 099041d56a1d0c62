"""Judge search strategies by replaying recorded tables of trials: which finds the better model in 6 and in 12 trials?

    python -m benchmarks.judging.strategies [--seconds 3600] [--weights FOLDER]
    python -m benchmarks.judging.strategies --quick    short tables and few replays, no result

A table holds configurations that were drawn at random from the default ranges, each with its objective (as the tuner
gets it) and its accuracy on the test split. Heads are trained on features of a network that was pretrained on generated
patterns, on five sets; one more table is of trainings of every layer, with half of the images. A replay lets the local
cloud's tuner propose points, two at a time, and gives it for each the result of the nearest recorded configuration that
it has not had yet. Hyperband gets it epoch by epoch; of a trial that it ends early the test accuracy is that of all
epochs, which flatters it. Both are kept in `results/recorded/`; a run goes on where the last one ended.

The default strategy is what beats the simplest one, Random, after 6 and after 12 trials, the 95 % interval of the mean
over all tables above 0 both times; where nothing does, it is Random.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import math
import random
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import mean, variance
from typing import Any

import numpy as np

from benchmarks.results import RESULTS, claim, write_result
from benchmarks.training.batch_norm import choose_digits
from benchmarks.training.pretrain import make_job, pretrain
from chalicelib.recipes.values import Recipe
from localcloud.sagemaker.tuning.search import Range, Search, State, Trial, judge_hyperband, make_seed, suggest
from tests.training.judging.settling.drawing import draw_set

FOLDER = RESULTS / "recorded"
TABLES = {**dict.fromkeys(("digits", "figures", "letters", "stripes", "dots"), 200), "digits, every layer": 60}
REPLAYS, PART = 500, 50
TRIALS, AT_ONCE = (6, 12), 2
NEAR = 0.01
CHECKED = 3  # heads of each table that are trained one by one too
SIMPLEST, STRATEGIES = "Random", ("Random", "Bayesian", "Hyperband")
CHOSEN: dict[str, Any] = {"architecture": "mobilenet_v2", "image_size": 32, "epochs": Recipe.epochs}
COUNTS = {"train": 40, "valid": 12, "test": 60}
RANGES = (
    Range("learning_rate", "float", 0.1, 10.0, "Logarithmic"),
    Range("weight_decay", "float", 1e-5, 0.1, "Logarithmic"),
    Range("batch_size", "categorical", choices=("16", "32", "64")),
)
Row = dict[str, Any]
RUNGS = (1, 3)  # the epochs after which Hyperband compares trials of eight: powers of three
Gain = tuple[float, float]  # points of test accuracy, and half of the 95 % interval


def draw_configuration(number: int) -> dict[str, str]:
    """Draw a configuration from the ranges; the same one for the same number."""
    dice, drawn = random.Random(make_seed("table", number)), {}
    for item in RANGES:
        if item.kind == "categorical":
            drawn[item.name] = dice.choice(item.choices)
        else:
            drawn[item.name] = f"{math.exp(dice.uniform(math.log(item.low), math.log(item.high))):.6g}"
    return drawn


def read_files(table: str) -> dict[str, bytes]:
    name = table.partition(",")[0]
    if name == "digits":
        return choose_digits(10 * COUNTS["train"] // (1 if table == name else 2))
    with zipfile.ZipFile(io.BytesIO(draw_set(name, COUNTS))) as opened:
        return {each: opened.read(each) for each in opened.namelist()}


class Record:
    """A file of rows, each written as soon as it is known, and the time until which more are made."""

    def __init__(self, path: Path, deadline: float) -> None:
        self.path, self.deadline = path, deadline
        self.rows: list[Row] = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def complete(self, cells: Iterator[Row], make: Callable[[Row], Row]) -> bool:
        """Make the rows of the cells that are not there yet. Return whether all are there."""
        known = [{name: row[name] for name in ("table", "number", "strategy") if name in row} for row in self.rows]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            for cell in cells:
                if cell in known:
                    continue
                if time.monotonic() > self.deadline:
                    return False
                self.rows.append({**cell, **make(cell)})
                file.write(json.dumps(self.rows[-1], separators=(",", ":")) + "\n")
                file.flush()
        return True

    def of(self, table: str) -> list[Row]:
        return [row for row in self.rows if row["table"] == table]


class Bench:
    """One of the sets, with what all trainings on it share: images, features, and the fitted head they begin with."""

    def __init__(self, folder: Path, table: str, weights: Path, count: int) -> None:
        job = make_job(folder, read_files(table), weights, folder / "features")
        import program
        from job.settings import Hyperparameters
        from learning.baseline import fit_own_head
        from learning.preparation import prepare
        from learning.steps.team import Team

        depth = "all" if table.endswith("every layer") else "head"
        chosen = Hyperparameters(fine_tune=depth, pretrained="imagenet", horizontal_flip="false", **CHOSEN)
        with contextlib.redirect_stdout(io.StringIO()):
            self.setup = program.settle(prepare(job, chosen), Team())
            fit_own_head(self.setup)
        self.together = self.train_together(count) if depth == "head" else []

    def train_together(self, count: int) -> list[Row]:
        """Train all heads at once, and some of them as trials do: the first row says how far those are apart."""
        from benchmarks.judging.heads import train_heads

        with contextlib.redirect_stdout(io.StringIO()):
            rows = train_heads(self.setup, [draw_configuration(number) for number in range(count)])
        apart = [
            abs(self.train(row["drawn"])[name] - row[name]) for row in rows[:CHECKED] for name in ("valid", "test")
        ]
        return [{**rows[0], "apart": round(max(apart), 5)}, *rows[1:]]

    def measure(self, number: int) -> Row:
        return self.together[number] if self.together else self.train(draw_configuration(number))

    def train(self, drawn: Mapping[str, str]) -> Row:
        """Train as a trial does. Return the objective by epoch and of the best one, and that one's test accuracy."""
        from judging.evaluate import measure
        from judging.settling.selection import judge_by_folds
        from learning.engine import Progress, Stopped, fit, restore_best
        from learning.model import find_head
        from learning.preparation import make_course

        chosen = replace(
            self.setup.chosen,
            learning_rate=float(drawn["learning_rate"]),
            weight_decay=float(drawn["weight_decay"]),
            batch_size=int(drawn["batch_size"]),
        )
        network, data, records = copy.deepcopy(self.setup.network), self.setup.dataset, list[Row]()
        own = replace(self.setup, chosen=chosen, network=network, head=find_head(network, len(data.classes)))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Stopped):
            course = judge_by_folds(own, make_course(own))
            progress = Progress(best=course.validate())
            fit(
                course.learner,
                course.batches,
                course.validate,
                epochs=chosen.epochs,
                patience=0,
                objective=chosen.objective,
                seed=chosen.seed,
                progress=progress,
                save=lambda _: None,
                report=records.append,
            )
        restore_best(course.learner.network, progress)
        test = measure(course.judge.answer("test"), data.test.labels)["accuracy"]
        values = [round(record["valid"][chosen.objective], 4) for record in records]
        return {
            "drawn": drawn,
            "valid": round(progress.best[chosen.objective], 5),
            "test": round(test, 4),
            "epochs": values,
        }


class Table:
    """Recorded configurations, and where they lie: each range counts as one unit."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.points = np.array([locate(row["drawn"]) for row in rows])

    def find(self, wanted: Mapping[str, str], given: Sequence[int]) -> int:
        """Return the number of the nearest configuration that was not given yet."""
        apart = ((self.points - locate(wanted)) ** 2).sum(1)
        apart[list(given)] = np.inf
        return int(apart.argmin())

    def replay(self, strategy: str, seed: int) -> tuple[list[int], int]:
        """Return the best configurations by the objective after each number of trials, and how many epochs were run."""
        search = Search("replay", strategy, RANGES, True, seed, (1, CHOSEN["epochs"]))
        history, given = list[Trial](), list[int]()
        while len(given) < max(TRIALS):
            for _ in range(AT_ONCE):
                wanted = suggest(search, history)
                assert wanted is not None
                given.append(self.find(wanted, given))
                history.append(Trial(self.rows[given[-1]]["drawn"], "running"))
            self.finish(search, history, given)
        reached = [trial.values[-1] for trial in history]
        best = [given[max(range(trials), key=reached.__getitem__)] for trials in TRIALS]
        return best, sum(len(trial.values) - 1 for trial in history)

    def finish(self, search: Search, history: list[Trial], given: Sequence[int]) -> None:
        """Let what runs end, epoch by epoch where the strategy may end it sooner. Its last value is its best."""
        running = range(len(given) - AT_ONCE, len(given))
        for steps in RUNGS if search.strategy == "Hyperband" else ():
            for place in running:
                if history[place].state == "running":
                    trial = replace(history[place], values=self.rows[given[place]]["epochs"][:steps])
                    history[place] = trial
                    stops, notes = judge_hyperband(search, history, place, steps)
                    values = [*trial.values, max(trial.values)] if stops else trial.values
                    state: State = "stopped" if stops else "running"
                    history[place] = replace(trial, state=state, values=values, attributes=notes)
        for place in running:
            if history[place].state == "running":
                row = self.rows[given[place]]
                history[place] = replace(history[place], state="finished", values=[*row["epochs"], row["valid"]])


def locate(drawn: Mapping[str, str]) -> np.ndarray[Any, Any]:
    """Return a configuration as a point; of a list of choices any two are one unit apart."""
    parts: list[float] = []
    for item in RANGES:
        if item.kind == "categorical":
            parts += [math.sqrt(0.5) * (drawn[item.name] == choice) for choice in item.choices]
        else:
            parts.append(math.log(float(drawn[item.name]) / item.low) / math.log(item.high / item.low))
    return np.array(parts)


def list_gains(tables: Record, replays: Record, table: str, strategy: str) -> dict[int, list[float]]:
    """Return by how many points of test accuracy a strategy beats the simplest one, replay by replay."""
    reached = {}
    for name in (strategy, SIMPLEST):
        parts = sorted((row for row in replays.of(table) if row["strategy"] == name), key=lambda row: row["number"])
        reached[name] = [numbers for row in parts for numbers in row["best"]]
    rows = tables.of(table)
    pairs = list(zip(reached[strategy], reached[SIMPLEST], strict=True))
    return {
        trials: [100 * (rows[one[place]]["test"] - rows[other[place]]["test"]) for one, other in pairs]
        for place, trials in enumerate(TRIALS)
    }


def sum_up(gains: Sequence[Sequence[float]]) -> Gain:
    """Return the mean over the tables, each with the same weight, and half of its 95 % interval."""
    error = math.sqrt(sum(variance(each) / len(each) for each in gains)) / len(gains)
    return mean(map(mean, gains)), 1.96 * error


def choose_default(gains: Mapping[str, Sequence[Gain]]) -> str:
    """Return the strategy that clearly beats the simplest one after every number of trials, or the simplest."""
    winners = [name for name, each in gains.items() if all(gain - half > 0 for gain, half in each)]
    return max(winners, key=lambda name: sum(gain for gain, _ in gains[name]), default=SIMPLEST)


def describe(tables: Record, replays: Record, count: int) -> list[Row]:
    """Return the claims: each strategy against the simplest one, by table and over all, and which is the default."""
    claims, overall = [], dict[str, list[Gain]]()
    for strategy in STRATEGIES[1:]:
        gains = {table: list_gains(tables, replays, table, strategy) for table in TABLES}
        overall[strategy] = [sum_up([each[trials] for each in gains.values()]) for trials in TRIALS]
        for place, trials in enumerate(TRIALS):
            told = {name: sum_up([each[trials]]) for name, each in gains.items()}
            told["all tables"] = overall[strategy][place]
            for name, (gain, half) in told.items():
                text = f"{name}: points of test accuracy by {strategy} over {SIMPLEST} after {trials} trials, "
                claims.append(claim(f"{text}± {half:.2f} (95 %, {count} replays)", round(gain, 3), "points"))
        share = count_epochs(replays, strategy) / count_epochs(replays, SIMPLEST)
        claims.append(claim(f"epochs that {strategy} trains, of those of {SIMPLEST}", round(share, 3), "share"))
    apart = max(row["apart"] for row in tables.rows if "apart" in row)
    text = f"heads trained together and one by one, {CHECKED} a table: largest difference of objective or accuracy"
    claims.append(claim(text, apart, "share", at_most=NEAR))
    chosen = choose_default(overall)
    text = f"the default strategy, {Recipe.strategy}, is the one that these replays choose ({chosen})"
    return [*claims, claim(text, float(chosen == Recipe.strategy), "yes", at_least=1.0)]


def count_epochs(replays: Record, strategy: str) -> int:
    return sum(row["epochs"] for row in replays.rows if row["strategy"] == strategy)


def run(folder: Path, sizes: Mapping[str, int], replayed: int, weights: Path | None, seconds: float) -> list[Row]:
    """Record and replay what is missing, until the time is up. Return the claims, or none if something still is."""
    deadline = time.monotonic() + seconds
    tables, replays = (Record(folder / f"strategies_{name}.jsonl", deadline) for name in ("tables", "replays"))
    cells = ({"table": table, "number": number} for table, count in sizes.items() for number in range(count))
    parts = (
        {"table": table, "strategy": strategy, "number": number}
        for strategy in STRATEGIES
        for table in sizes
        for number in range(0, replayed, PART)
    )
    with tempfile.TemporaryDirectory() as base:
        if len(tables.rows) < sum(sizes.values()):
            weights = weights or make_weights(Path(base))
        benches = cache(lambda table: Bench(Path(base) / table, table, weights or Path(base), sizes[table]))
        if not tables.complete(cells, lambda cell: benches(cell["table"]).measure(cell["number"])):
            return []
    read = {table: Table(tables.of(table)) for table in sizes}

    def replay(part: Row) -> Row:
        seeds = range(part["number"], min(part["number"] + PART, replayed))
        found = [read[part["table"]].replay(part["strategy"], seed) for seed in seeds]
        return {"best": [best for best, _ in found], "epochs": sum(epochs for _, epochs in found)}

    return describe(tables, replays, replayed) if replays.complete(parts, replay) else []


def make_weights(base: Path) -> Path:
    with contextlib.redirect_stdout(io.StringIO()):
        pretrain(base / "weights", str(CHOSEN["architecture"]))
    return base / "weights"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judging.strategies")
    parser.add_argument("--quick", action="store_true", help="short tables and few replays, no result")
    parser.add_argument("--seconds", type=float, default=3600, help="stop after this long; the next run goes on")
    parser.add_argument("--weights", type=Path, help="a folder with mobilenet_v2.pth, which is made otherwise")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    if given.quick:
        with tempfile.TemporaryDirectory() as base:
            for each in run(Path(base), dict.fromkeys(TABLES, 14), 5, given.weights, given.seconds):
                print(each["claim"], each["measured"], flush=True)
        return
    claims = run(FOLDER, TABLES, REPLAYS, given.weights, given.seconds)
    if claims:
        write_result("strategies", claims, ["torch", "optuna"])
    else:
        print("the tables or their replays are not complete: run it again to go on")


if __name__ == "__main__":
    main()
