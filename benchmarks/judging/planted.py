"""Plant gross faults in real trainings of a dataset whose live model is good, and count the models that would go live.

A case trains the final training of a new version of a dataset in this process, with comparison.json as its result, and
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
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks.judging.faults import CASES, FAULTS, Case, Files, draw_files, make_version, read_label, truncate
from benchmarks.results import RESULTS, claim, write_result
from benchmarks.training.pretrain import TRAINING, Never
from chalicelib.models.choosing import decide_on_model
from chalicelib.models.promoting import DEPLOY
from chalicelib.runs.identity import Run
from chalicelib.runs.observation import Observation, Training

sys.path.append(str(TRAINING))

import program
from comparing.answers import answer_files, open_source
from comparing.archives import read_artifact
from job.settings import Hyperparameters, Job, Places, TrainingError
from learning.preparation import Setup, prepare

from tests.training.comparing.compared import write_weights

RECORDED = RESULTS / "recorded" / "planted.jsonl"
CHOSEN = {"image_size": 32, "batch_size": 16, "epochs": 4, "fine_tune": "head"}
SOUND = 10
GROSS = 0.1  # the share of images by which a broken model is worse than the live one, with right labels
LIVE = "whippet-dev-planted-00000000"


def make_job(folder: Path, files: Files, weights: Path, **channels: Path) -> Job:
    names = {name: folder / name for name in ("dataset", "model", "output", "checkpoints")}
    names["dataset"].mkdir(parents=True)
    with zipfile.ZipFile(names["dataset"] / "dataset.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return Job(f"job-of-{folder.name}", Places(weights=weights, code=TRAINING, **names, **channels), threads=1, gpus=0)


def train(job: Job, **chosen: Any) -> Setup:
    """Run a final training up to its comparison: baseline, debugger and report change nothing of that."""
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
            return write_weights(self.folder / "weights")

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
        told: dict[str, Any] = {"goes_live": False, "hidden": {"live": round(good, 4), "new": 0.0}}
        try:
            setup = train(job, run_id="new", live_run="" if case.first else LIVE, seed=case.number)
            promotion = (decision := decide(job, live=None if case.first else LIVE))["promotion"]
            told |= {"action": promotion["action"], "sentence": promotion["sentence"]}
            told["goes_live"] = promotion["action"] == DEPLOY and not decision["declined"]
            told["hidden"]["new"] = round(ask(job, setup, draw_files(case.dataset, "hidden", 77), self.folder), 4)
        except TrainingError as error:
            told |= {"action": "fail", "sentence": str(error)}
        return {**case.describe(), **told, "seconds": round(time.monotonic() - begun, 1)}


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
        actions = {
            action: sum(row["action"] == action for row in own) for action in ("deploy", "ask", "decline", "fail")
        }
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
