"""Plant gross faults in real trainings of a dataset whose live model is good, and count the models that would go live.

A case trains the last training of a new version of a dataset in this process, with comparison.json as its result, and
lets the control plane decide on that. Its number alone decides everything: the images, what is broken, and how far the
new version is from the live one. Sound new versions are trained too, since a rule that lets no model through is worth
nothing. Every model is also asked about images with right labels that nobody else has seen: that shows the harm.

    python -m benchmarks.judging.planted [--case 17] [--seconds 900] [--again]      (make planted CASE=17)

Cases are recorded in `results/recorded/planted.jsonl`; a run goes on where the last one ended.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.results import RESULTS, claim, write_result
from benchmarks.training.pretrain import TRAINING, Never, pretrain
from chalicelib.models.choosing import decide_on_model
from chalicelib.models.promoting import DEPLOY
from chalicelib.runs.identity import Run
from chalicelib.runs.observation import Observation, Training
from tests.training.judging.settling.drawing import draw_set

sys.path.append(str(TRAINING))

import program
from comparing.answers import answer_files, open_source
from comparing.archives import read_artifact
from job.settings import Hyperparameters, Job, Places
from learning.preparation import Setup, prepare

RECORDED = RESULTS / "recorded" / "planted.jsonl"
ARCHITECTURE, SIDE = "mobilenet_v2", 32
CHOSEN = {"image_size": SIDE, "batch_size": 16, "epochs": 4, "fine_tune": "head"}
COUNTS = {  # images of a class
    "old": {"train": 40, "valid": 12, "test": 40},
    "new": {"train": 12, "valid": 4, "test": 20},
    "hidden": {"test": 60},
}
SETS = ("figures", "letters", "pets", "dots")
FAULTS = ("shuffled", "swapped", "truncated")
HEADS = ("classifier", "fc")
CASES, SOUND = 40, 10
GROSS = 0.1  # the share of images by which a broken model is worse than the live one, with right labels
LIVE = "whippet-dev-planted-00000000"

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
    """Return a channel whose file of weights lost its end: from somewhere on there are only zeros, or chance values."""
    path = next(weights.glob("*.pth"))
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    names = [name for name, value in state.items() if value.is_floating_point() and not name.startswith(HEADS)]
    kept = int(len(names) * case.rng.uniform(0.2, 0.8))
    scale = float(case.rng.choice([0.0, 3.0]))
    generator = torch.Generator().manual_seed(case.number)
    for name in names[kept:]:
        state[name] = scale * torch.randn(state[name].shape, generator=generator).abs()
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


def make_job(folder: Path, files: Files, weights: Path, **channels: Path) -> Job:
    names = {name: folder / name for name in ("dataset", "model", "output", "checkpoints")}
    names["dataset"].mkdir(parents=True)
    with zipfile.ZipFile(names["dataset"] / "dataset.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return Job(f"job-of-{folder.name}", Places(weights=weights, code=TRAINING, **names, **channels), threads=1, gpus=0)


def train(job: Job, **chosen: Any) -> Setup:
    """Run a last training up to its comparison: baseline, debugger and report change nothing of that."""
    assert job.places.weights
    own = {"architecture": next(job.places.weights.glob("*.pth")).stem, "pretrained": "imagenet", "profile": True}
    given = Hyperparameters(**{**CHOSEN, **own, **chosen})
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        session = program.open_session(prepare(job, given), Never(), time.time())
        program.begin(session)
        finished = program.train(session, ())
        program.ship(session, Never(), finished=finished)
    return session.setup


def pack(job: Job) -> Path:
    """Pack a job's model as SageMaker does. Return the folder, a channel."""
    channel = job.places.output / "channel"
    channel.mkdir(parents=True, exist_ok=True)
    with tarfile.open(channel / "model.tar.gz", "w:gz", compresslevel=1) as archive:
        for name in ("model.pth", "manifest.json"):
            archive.add(job.places.model / name, name)
    return channel


def ask(job: Job, setup: Setup, files: Files, scratch: Path) -> float:
    """Return a shipped model's accuracy on files whose labels are right."""
    path = scratch / "hidden.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    model, names = read_artifact(pack(job), scratch / "unpacked"), list(files)
    with open_source(path, None) as source:
        logits = answer_files(setup, model.network, model.inputs, source, names, Never(), set())
    answers = [model.classes[number] for number in logits.argmax(1).tolist()]
    return sum(answer == read_label(name) for answer, name in zip(answers, names, strict=True)) / len(names)


class Bench:
    """The pretrained weights, and a good live model of each set, made when they are wanted."""

    def __init__(self, folder: Path, weights: Path | None = None) -> None:
        self.folder, self.given = folder, weights
        self.live: dict[str, tuple[Job, float]] = {}

    @cached_property
    def weights(self) -> Path:
        if self.given:
            return self.given
        with contextlib.redirect_stdout(io.StringIO()):
            pretrain(self.folder / "weights", ARCHITECTURE, side=SIDE)
        return self.folder / "weights"

    def find_live(self, name: str) -> tuple[Job, float]:
        """Return the job of a set's live model, and its accuracy on hidden images."""
        if name not in self.live:
            job = make_job(self.folder / f"live-{name}", draw_files(name, "old", 0), self.weights)
            setup = train(job, run_id=LIVE)
            self.live[name] = job, ask(job, setup, draw_files(name, "hidden", 77), self.folder)
        return self.live[name]

    def run(self, case: Case) -> dict[str, Any]:
        """Train a case and return what became of it."""
        begun, folder = time.monotonic(), self.folder / f"case-{case.number}"
        live, good = self.find_live(case.dataset)
        channels = {} if case.first else {"live_model": pack(live)}
        channels |= {} if case.first or case.gone else {"live_dataset": live.places.dataset}
        broken = case.fault == "truncated"
        weights = truncate(self.weights, self.folder / f"broken-{case.number}", case) if broken else self.weights
        job = make_job(folder, make_version(case), weights, **channels)
        setup = train(job, run_id="new", live_run="" if case.first else LIVE, seed=case.number)
        decision = decide(job, live=None if case.first else LIVE)
        reached = ask(job, setup, draw_files(case.dataset, "hidden", 77), self.folder)
        return {
            **case.describe(),
            "action": decision["promotion"]["action"],
            "goes_live": decision["promotion"]["action"] == DEPLOY and not decision["declined"],
            "hidden": {"live": round(good, 4), "new": round(reached, 4)},
            "sentence": decision["promotion"]["sentence"],
            "seconds": round(time.monotonic() - begun, 1),
        }


def decide(job: Job, *, live: str | None) -> dict[str, Any]:
    """Let the control plane decide on what a job left, with the recipe's defaults."""
    evaluation, comparison = (
        json.loads((job.places.checkpoints / f"{name}.json").read_text()) for name in ("evaluation", "comparison")
    )
    key = "datasets/planted.zip"
    run = Run("whippet-dev-planted-11111111", "planted", "bucket", key, None, "", 0, 1, "", "", "", {"key": key})
    training = Training("Completed", evaluation=evaluation, name=run.training_job, model_data="s3://bucket/model")
    told: dict[str, Any] = {"training": training, "comparison": comparison, "live": live}
    tuned = {"best": {"name": "trial", "objective": None}, "model_data": None}
    decision = decide_on_model(Observation(run, datetime.now(UTC), frozenset(), tuned=tuned, **told))
    assert decision
    return decision


def read_recorded() -> dict[int, dict[str, Any]]:
    lines = RECORDED.read_text().splitlines() if RECORDED.exists() else []
    return {each["case"]: each for each in map(json.loads, lines)}


def measure_harm(row: Mapping[str, Any]) -> float:
    return float(row["hidden"]["live"] - row["hidden"]["new"])


def describe(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the claims about all cases."""
    broken = [row for row in rows if row["fault"] != "none"]
    sound = [row for row in rows if row["fault"] == "none"]
    gross = [row for row in broken if measure_harm(row) >= GROSS]
    claims = []
    for fault in FAULTS:
        own = [row for row in broken if row["fault"] == fault]
        actions = {action: sum(row["action"] == action for row in own) for action in ("deploy", "ask", "decline")}
        text = f"{fault}: of {len(own)} models so many go live"
        claims.append(claim(text, sum(row["goes_live"] for row in own), "models", at_most=0, actions=actions))
    worse = sorted(map(measure_harm, broken))
    median = 100 * worse[len(worse) // 2]
    text = f"of these {len(broken)} so many are worse than the live model by {GROSS:.0%} of hidden images or more"
    claims.append(
        claim(text, len(gross), "models", median_points=round(median, 1), least_points=round(100 * worse[0], 1))
    )
    for name, member in (("go live", "deploy"), ("are left to a person", "ask")):
        count = sum(row["action"] == member for row in sound)
        claims.append(claim(f"of {len(sound)} sound new versions so many {name}", count, "models"))
    declined = sum(row["action"] == "decline" for row in sound)
    return [*claims, claim(f"of {len(sound)} sound new versions so many are declined", declined, "models", at_most=0)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judging.planted")
    parser.add_argument("--case", type=int, help="run this one alone, and tell all of it")
    parser.add_argument("--seconds", type=float, default=3600, help="stop after this long; the next run goes on")
    parser.add_argument("--again", action="store_true", help="forget what is recorded")
    parser.add_argument("--weights", type=Path, help="a channel with pretrained weights, which are made otherwise")
    given = parser.parse_args([] if sys.argv[0].endswith("benchmarks/__main__.py") else None)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as base:
        bench = Bench(Path(base), given.weights)
        if given.case is not None:
            print(json.dumps(bench.run(Case(given.case)), indent=2))
            return
        rows = record(bench, given.seconds, {} if given.again else read_recorded())
    if len(rows) == CASES + SOUND:
        write_result("planted", describe(list(rows.values())), ["torch", "torchvision"])
    else:
        print(f"{len(rows)} of {CASES + SOUND} cases: run it again to go on")


def record(bench: Bench, seconds: float, rows: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Run the cases that are not recorded yet, and write each as soon as it is known."""
    deadline = time.monotonic() + seconds
    RECORDED.parent.mkdir(parents=True, exist_ok=True)
    with RECORDED.open("a" if rows else "w", encoding="utf-8") as file:
        for number in range(CASES + SOUND):
            if number in rows or time.monotonic() > deadline:
                continue
            rows[number] = row = bench.run(Case(number))
            file.write(json.dumps(row, separators=(",", ":")) + "\n")
            file.flush()
            print(f"{number} {row['fault']} {row['dataset']}: {row['action']}, {row['hidden']}", flush=True)
    return rows


if __name__ == "__main__":
    main()
