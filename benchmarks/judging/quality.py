"""Compare the default recipe with three other programs, at equal seconds and equal splits.

They are the course's program, torchvision's reference and fastai. All begin with the same weights, those of
`benchmarks.training.pretrain`, and take images of SIDE pixels on one thread. Ours trains for EPOCHS, the recipe's
default, and ships its best epoch; each peer then gets as many seconds, with its own defaults. Seconds are the
processor's: on one thread they are those of a quiet machine, whatever else runs. A cell is a set, a program and a seed;
it is recorded in `results/recorded/quality.jsonl` as soon as it is known, so that the benchmark runs in parts.

    python -m benchmarks.judging.quality [--quick] [--seconds 3600] [--weights FOLDER] [--photos FOLDER]

`--photos` names a folder with the photographs of Debian's package tuxpaint-stamps-default, which installs them in
/usr/share/tuxpaint/stamps; without it this set is left out.

`--quick` takes one seed, and ends within five minutes: its result says nothing about significance.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn.functional import nll_loss, one_hot

from benchmarks.judging.comparison import describe_comparison
from benchmarks.judging.sets import SETS, Files, draw_set
from benchmarks.results import RESULTS, claim, write_result
from benchmarks.training.pretrain import TRAINING, pretrain, train
from tests.contracts.toolkits.environments import build_environment

sys.path.append(str(TRAINING))

from comparing.answers import answer_files, open_source
from comparing.archives import build

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "benchmarks" / "peers"
PROGRAMS = ("ours", "course", "reference", "fastai")
ARCHITECTURE, SIDE, EPOCHS, SEEDS = "resnet18", 32, 10, 5
QUICK_EPOCHS, QUICK_SEEDS, MANY = 3, 1, 1000  # of a set with many images for training the quick run takes one epoch
Row = dict[str, Any]


ANSWERING: Any = SimpleNamespace(job=SimpleNamespace(threads=1), device=torch.device("cpu"))


def measure(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Return what is told of a program's answers."""
    classes, logs = logits.shape[1], logits.double().log_softmax(1)
    answers = logits.argmax(1)
    counts = torch.zeros(classes, classes, dtype=torch.float64)
    counts.index_put_((labels, answers), torch.ones(len(labels), dtype=torch.float64), accumulate=True)
    right, given, taken = counts.diagonal(), counts.sum(1), counts.sum(0)
    told = {
        "accuracy": float((answers == labels).double().mean()),
        "macro_f1": float((2 * right / (given + taken).clamp(min=1)).mean()),
        "lowest_recall": float((right / given.clamp(min=1)).min()),
        "nll": float(nll_loss(logs, labels)),
        "brier": float((logs.exp() - one_hot(labels, classes)).square().sum(1).mean()),
    }
    return {name: round(value, 5) for name, value in told.items()}


def list_test(files: Files) -> tuple[list[str], torch.Tensor]:
    """Return the names of the test images, in the order of ImageFolder, and their labels."""
    names = sorted(name for name in files if name.startswith("test/"))
    return names, torch.tensor([int(name.split("/")[1]) for name in names])


def run_ours(folder: Path, files: Files, weights: Path, name: str, seed: int, epochs: int) -> Row:
    """Train with the recipe's defaults, and answer as the endpoint would."""
    chosen = {"architecture": ARCHITECTURE, "image_size": SIDE, "epochs": epochs, "seed": seed}
    objective = "macro_f1" if SETS[name].measure == "macro_f1" else "score"
    begun = count_processor()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        train(folder, files, weights, objective=objective, **chosen)
    seconds = count_processor() - begun
    manifest = json.loads((folder / "model/manifest.json").read_text())
    model = build(manifest, folder / "model/model.pth")
    names, labels = list_test(files)
    with open_source(folder / "dataset/dataset.zip", None) as source:
        logits = answer_files(ANSWERING, model.network, model.inputs, source, names, lambda: False, set())
    return {"seconds": round(seconds, 1), "epochs": epochs} | measure(logits / manifest["temperature"], labels)


def count_processor() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def run_peer(program: str, data: Path, files: Files, weights: Path, seed: int, seconds: float) -> Row:
    """Train a peer for so many seconds, with its own defaults."""
    answers = data.parent / f"{program}.pt"
    given = {"--data": data, "--weights": weights, "--answers": answers, "--seed": seed, "--seconds": seconds}
    given |= {"--size": SIDE, "--threads": 1}
    given |= {"--out": data.parent / "out.pth"} if program == "course" else {"--workers": 0}
    python = str(build_environment("peers", PEERS) / "python") if program == "fastai" else sys.executable
    module = f"benchmarks.peers.{program}" + ("_program" if program == "fastai" else "")
    command = [python, "-m", module, *(str(each) for pair in given.items() for each in pair)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{program} failed: {done.stderr[-2000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    spent = told["seconds"]["processor"] if program == "course" else told["processor"]
    epochs = len(told["epochs"]) if program == "reference" else told["epochs"]
    _, labels = list_test(files)
    return {"seconds": round(spent, 1), "epochs": epochs} | measure(torch.load(answers, weights_only=True), labels)


def write_files(folder: Path, files: Files) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def widen(weights: Path, to: Path) -> Path:
    """Write the weights with the 1,000 outputs of torchvision's files, which peers load before they replace them."""
    state = torch.load(weights / f"{ARCHITECTURE}.pth", weights_only=True)
    state |= {"fc.weight": torch.zeros(1000, state["fc.weight"].shape[1]), "fc.bias": torch.zeros(1000)}
    torch.save(state, to)
    return to


def list_cells(seeds: int, sets: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield sets and seeds, a seed of all sets before the next, so that a part of them says something of every set."""
    return ((name, seed) for seed in range(seeds) for name in sets)


def run_cells(path: Path, weights: Path, seeds: int, epochs: int, seconds: float, photos: Path | None) -> list[Row]:
    """Run what is not recorded yet, until the time is up. Return all rows."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    known, deadline = {(row["set"], row["seed"]) for row in rows}, time.monotonic() + seconds
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as base, path.open("a", encoding="utf-8") as file:
        wide = widen(weights, Path(base) / "wide.pth")
        for name, seed in list_cells(seeds, list_sets(photos)):
            if (name, seed) in known or time.monotonic() > deadline:
                continue
            with tempfile.TemporaryDirectory(dir=base) as folder:
                rows += (found := list(run_cell(Path(folder), name, seed, weights, wide, epochs, photos)))
            file.writelines(json.dumps(row, separators=(",", ":")) + "\n" for row in found)
            file.flush()
    return rows


def list_sets(photos: Path | None) -> list[str]:
    return [name for name in SETS if photos or name != "photos"]


def run_cell(
    folder: Path, name: str, seed: int, weights: Path, wide: Path, epochs: int, photos: Path | None
) -> Iterator[Row]:
    """Let every program train on the same files."""
    files = draw_set(name, seed, photos)
    many = sum(each.startswith("train/") for each in files) > MANY
    epochs = 1 if many and epochs == QUICK_EPOCHS else epochs
    data = write_files(folder / "data", files)
    ours = run_ours(folder / "ours", files, weights, name, seed, epochs)
    peers = {each: run_peer(each, data, files, wide, seed, ours["seconds"]) for each in PROGRAMS[1:]}
    for program, row in {"ours": ours, **peers}.items():
        print(f"{name} {seed} {program}: {row}", flush=True)
        yield {"set": name, "seed": seed, "program": program, **row}


def describe(rows: list[Row], epochs: int) -> list[Row]:
    """Return the claims: what each program reached, and the comparison."""
    about = {"image_size": SIDE, "architecture": ARCHITECTURE, "epochs": epochs, "threads": 1}
    measures = {name: each.measure for name, each in SETS.items() if any(row["set"] == name for row in rows)}
    seconds = {name: max(row["seconds"] for row in rows if row["set"] == name) for name in measures}
    claims = [claim("processor seconds of a training at most", max(seconds.values()), "s", by_set=seconds, **about)]
    return claims + describe_comparison(rows, measures, PROGRAMS)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judging.quality")
    parser.add_argument("--quick", action="store_true", help="one seed and few epochs, in a result of its own")
    parser.add_argument("--seconds", type=float, default=3600, help="stop after this long; the next run goes on")
    parser.add_argument("--weights", type=Path, help="a folder with resnet18.pth, which is made otherwise")
    parser.add_argument("--photos", type=Path, help="a folder with photographs, /usr/share/tuxpaint/stamps on Debian")
    given = parser.parse_args([] if sys.argv[0].endswith("benchmarks/__main__.py") else None)
    torch.set_num_threads(1)
    name = "quality_quick" if given.quick else "quality"
    seeds, epochs = (QUICK_SEEDS, QUICK_EPOCHS) if given.quick else (SEEDS, EPOCHS)
    with tempfile.TemporaryDirectory() as base:
        weights = given.weights or Path(base)
        if not given.weights:
            with contextlib.redirect_stdout(io.StringIO()):
                pretrain(weights, ARCHITECTURE, side=SIDE)
        recorded = RESULTS / "recorded" / f"{name}.jsonl"
        rows = run_cells(recorded, weights, seeds, epochs, given.seconds, given.photos)
    wanted = seeds * len(list_sets(given.photos)) * len(PROGRAMS)
    if len(rows) >= wanted:
        write_result(name, describe(rows, epochs), ["torch", "torchvision", "scikit-learn"])
    else:
        print(f"{len(rows)} of {wanted} cells: run it again to go on")


if __name__ == "__main__":
    main()
