"""Count how often the debugger's rules are right: on healthy trainings, and on each fault, provoked ten times.

Tiny networks train on small generated images and on scanned digits, each in a second or two. A healthy training has
the best of six draws of hyperparameters, as a run's final training has those that tuning found. Thresholds were set
on the collection `setting`; what is claimed is counted on `counting`, whose kinds of images are others, and which is
drawn again (`DRAW` in toys.py) rather than counted often: docs/debugger.md says how often it was. Each training
is recorded in `results/recorded/rules.jsonl` with everything that the rules on a training's course read, so that they
can be judged again without training; a run goes on where the last one ended. What rules on tensors said is recorded as
it was.

    python -m benchmarks.judging.rules [--quick] [--collection setting] [--seconds 600]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import RESULTS, claim, write_result

sys.path.append(str(Path(__file__).parents[2] / "training"))

import torch
from debugger.course import Course, Facts
from debugger.course_rules import COURSE_RULES
from debugger.verdicts import FOUND, CourseVerdict, rank
from debugger.watch import Debugger, make_debugger
from judging.evaluate import measure
from learning.engine import Learner, Progress, Stopped, fit

from benchmarks.judging.toys import FAULTS, Toy, make_toy

RECORDED = RESULTS / "recorded" / "rules.jsonl"
SIZES = {"setting": (120, 12), "counting": (60, 10)}  # healthy trainings, and how often each fault is provoked
DIGITS = 4
COLUMNS = {"train": ("train", "loss"), "valid": ("valid", "loss"), "accuracy": ("valid", "accuracy")}
CPU = torch.device("cpu")


class Batches:
    """A toy's training images, in another random order in each epoch."""

    def __init__(self, toy: Toy) -> None:
        self.toy = toy
        self.steps = -(-len(toy.labels) // toy.batch)

    def of_epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(self.toy.labels), generator=torch.Generator().manual_seed(self.toy.seed + epoch))
        for chosen in order.split(self.toy.batch)[first:]:
            # Batch normalisation cannot learn from a single image.
            chosen = chosen if len(chosen) > 1 else torch.cat([chosen, order[:1]])
            yield self.toy.images[chosen], self.toy.labels[chosen]


@dataclass(frozen=True)
class Trained:
    """The best epoch's score on the validation images and logits on the test images; the debugger that watched."""

    score: float
    logits: torch.Tensor
    debugger: Debugger | None


def train(toy: Toy, folder: Path | None, stop_on: Sequence[str] = ()) -> Trained:
    """Train a toy, watched if a folder is given."""
    torch.manual_seed(0)
    network, batches = toy.build(), Batches(toy)
    learner = Learner(network, rate=toy.rate, weight_decay=0.01, steps=toy.epochs * batches.steps, device=CPU)
    answers: list[torch.Tensor] = []
    tested: list[torch.Tensor] = []

    def validate() -> dict[str, float]:
        answers[:] = [learner.judge([toy.valid[0]])]
        return measure(answers[0], toy.valid[1])

    def keep(progress: Progress) -> None:
        if progress.best_epoch == progress.epoch:
            tested[:] = [learner.judge([toy.test[0]])]

    counts = toy.labels.bincount(minlength=toy.classes).tolist()
    facts = Facts(counts, toy.valid[1], lambda: answers[0], toy.batch, batches.steps, toy.epochs)
    debugger = make_debugger(folder, folder, facts, stop_on_rules=stop_on, say=lambda _: None) if folder else None
    options: dict[str, Any] = {"save": lambda _: None, "report": lambda _: None, "keep": keep}
    options |= {"hooks": [debugger] if debugger else [], "objective": "score", "seed": 0, "progress": Progress()}
    try:
        fit(learner, batches, validate, epochs=toy.epochs, patience=0, **options)
    except Stopped:
        keep(options["progress"])
    return Trained(options["progress"].best["score"], tested[0], debugger)


def tune(toy: Toy) -> Toy:
    """Return the best of a toy and its rivals on validation, as the tuning job of a run does."""
    return max((toy, *toy.rivals), key=lambda each: train(each, None).score) if toy.rivals else toy


def record(name: str, toy: Toy) -> dict[str, Any]:
    """Tune and train, and return what the rules on the course read and what the rules on tensors said."""
    toy = tune(toy)
    with tempfile.TemporaryDirectory() as folder:
        trained = train(toy, Path(folder))
        debugger, logits = trained.debugger, trained.logits
        assert debugger
        if toy.default:
            one, two = (each.argmax(1) == toy.test[1] for each in (logits, train(toy.default, None).logits))
            debugger.compare({"better": int((one & ~two).sum()), "worse": int((two & ~one).sum())})
        told = json.loads((Path(folder) / "rules.json").read_text())["rules"]
    tensors = [
        {"name": rule["name"], "status": rule["status"], "steps": rule["steps"][:1]}
        for rule in told
        if rule["status"] == FOUND and rule["name"] not in COURSE_RULES
    ]
    reached = float((logits.argmax(1) == toy.test[1]).float().mean())
    return {
        "name": name,
        "test": round(reached, DIGITS),
        "course": describe_course(debugger.course),
        "tensors": tensors,
    }


def describe_course(course: Course) -> dict[str, Any]:
    """Return what rules read of a course, the epochs' records as columns."""
    told = {name: value for name, value in vars(course).items() if name not in ("records", "lowest", "classes")}
    columns = {name: [each[split][member] for each in course.records] for name, (split, member) in COLUMNS.items()}
    return {name: shorten(value) for name, value in (told | columns).items()}


def read_course(told: dict[str, Any]) -> Course:
    """Return the course that `describe_course` described."""
    records: list[dict[str, Any]] = [{"train": {}, "valid": {}} for _ in told["train"]]
    for name, (split, member) in COLUMNS.items():
        for each, value in zip(records, told[name], strict=True):
            each[split][member] = value
    return Course(records=records, **{name: value for name, value in told.items() if name not in COLUMNS})


def shorten(value: Any) -> Any:
    """Round every number."""
    if isinstance(value, float):
        short = float(f"{value:.{DIGITS}g}")
        return int(short) if short.is_integer() else short
    if isinstance(value, dict):
        return {name: shorten(each) for name, each in value.items()}
    return [shorten(each) for each in value] if isinstance(value, list | tuple) else value


def judge(recorded: dict[str, Any]) -> list[str]:
    """Return the rules that find something in a recorded training, in the order in which they are shown."""
    course = read_course(recorded["course"])
    verdicts = [CourseVerdict(rule()) for rule in COURSE_RULES.values()]
    for verdict in verdicts:
        verdict.look(course)
    entries = rank([*recorded["tensors"], *({"name": each.name, "status": each.status} for each in verdicts)])
    return [str(entry["name"]) for entry in entries if entry["status"] == FOUND]


def list_names(collection: str, *, quick: bool = False) -> list[str]:
    """Return the names of all trainings of a collection, healthy and faulty ones in turns."""
    healthy, provoked = (6, 1) if quick else SIZES[collection]
    kinds = [("healthy", number) for number in range(healthy)]
    kinds += [(fault, number) for number in range(provoked) for fault in FAULTS]
    # In turns, so that a part of them says something of every kind.
    return [f"{collection}/{kind}/{number}" for kind, number in sorted(kinds, key=lambda each: each[1])]


def read_recorded() -> dict[str, dict[str, Any]]:
    lines = RECORDED.read_text().splitlines() if RECORDED.exists() else []
    return {each["name"]: each for each in map(json.loads, lines)}


def count(recorded: Sequence[dict[str, Any]]) -> tuple[Counter[str], int, dict[str, list[str]]]:
    """Return false alarms by rule, the number of healthy trainings, and of each fault the first rule each time."""
    alarms: Counter[str] = Counter()
    firsts: dict[str, list[str]] = {}
    healthy = 0
    for each in recorded:
        _, kind, _ = each["name"].split("/")
        found = judge(each)
        if kind == "healthy":
            healthy += 1
            alarms.update(found)
        else:
            firsts.setdefault(kind, []).append(found[0] if found else "nothing")
    return alarms, healthy, firsts


def describe(recorded: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the claims about a collection's trainings."""
    alarms, healthy, firsts = count(recorded)
    worst, most = max(alarms.items(), key=lambda pair: pair[1], default=("no rule", 0))
    text = f"false alarms of the rule with most of them ({worst}) in {healthy} healthy trainings"
    claims = [claim(text, 100 * most / max(1, healthy), "%", at_most=5, alarms=dict(alarms))]
    for fault, found in sorted(firsts.items()):
        right = found.count(fault)
        others = dict(Counter(name for name in found if name != fault))
        text = f"{fault} provoked {len(found)} times: it is the first rule shown"
        claims.append(claim(text, right, "times", at_least=0.9 * len(found), others=others))
    return claims


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="few trainings, no result")
    parser.add_argument("--collection", choices=["setting", "counting"], default="counting")
    parser.add_argument("--seconds", type=float, default=3600, help="stop after this long; the next run goes on")
    given = parser.parse_args([] if sys.argv[0].endswith("benchmarks/__main__.py") else None)
    torch.set_num_threads(1)
    names, known = list_names(given.collection, quick=given.quick), read_recorded()
    deadline = time.monotonic() + given.seconds
    for name in names if given.quick else [name for name in names if name not in known]:
        if time.monotonic() > deadline:
            break
        known[name] = record(name, make_toy(name))
        print(f"{name}: {known[name]['test']:.2f} {judge(known[name])}", flush=True)
        if not given.quick:
            RECORDED.parent.mkdir(parents=True, exist_ok=True)
            with RECORDED.open("a") as file:
                file.write(json.dumps(known[name], separators=(",", ":")) + "\n")
    done = [known[name] for name in names if name in known]
    claims = describe(done)
    if given.quick or given.collection == "setting" or len(done) < len(names):
        print(f"{len(done)} of {len(names)} trainings")
        for each in claims:
            print(f"{each['claim']}: {each['measured']:.3g} {each['unit']} {each.get('others') or each.get('alarms')}")
        return
    write_result("rules", claims, ["torch", "smdebug", "numpy"])


if __name__ == "__main__":
    main()
