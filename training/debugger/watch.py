"""Run the debugger of the profiled training: rules judge its course and its tensors until the job ends.

smdebug saves the tensors. It is imported only here, late, and in a try: without it the training goes on and says so,
and the rules on the course judge alone. Results are in rules.json; a rule that is configured to do so may end the
training (rule-stop.json).
"""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from job.artifact import write_json
from job.metrics import log
from learning.engine import Hook, Learner, Stopped
from torch import nn

from debugger.course import Facts, add_epoch, begin_course
from debugger.course_rules import COURSE_RULES
from debugger.verdicts import ADVICE, FOUND, CourseVerdict, describe_verdict, find_stop, not_judge, rank

FORMAT = 1
QUIET = {
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",  # smdebug's messages need an older protobuf
    "SMDEBUG_LOG_LEVEL": "error",
    "SMDEBUG_TRAINING_END_DELAY_REFRESH": "0",
    # With SageMaker's file smdebug would scan the checkpoint folder at each step, and write its own state there.
    "CHECKPOINT_CONFIG_FILE_PATH": os.devnull + "/none",
}


def make_debugger(
    job_folder: Path,
    base: Path,
    facts: Facts | None = None,
    *,
    stop_on_rules: Sequence[str] = (),
    say: Callable[[str], None] = log,
) -> Debugger:
    """Return the hook for the loop. Where smdebug is missing, it warns, and judges by the training's course alone.

    base: SageMaker's /opt/ml, where debughookconfig.json may lie. facts: what is known before the first step; without
    them the rules on the training's course are not judged.
    """
    return Debugger(job_folder, find_configuration(base), facts, stop_on_rules, say)


def find_fault() -> str:
    """Return why smdebug cannot be used, or an empty string."""
    os.environ.update(QUIET)
    try:
        # smdebug needs pandas only for the files of its own profiler, and pandas takes longer to import than the rest.
        with putting_off("pandas"):
            for name in ("debugger.hook", "debugger.reader"):
                importlib.import_module(name)
    except Exception as error:  # noqa: BLE001  a half-installed package can raise anything
        return f"smdebug cannot be imported ({type(error).__name__}: {error})"
    return ""


@contextmanager
def putting_off(name: str) -> Iterator[None]:
    """Give whoever imports a module meanwhile one that loads it when something of it is first asked for."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = promise = ModuleType(name)
    promise.__dict__["__getattr__"] = lambda member: getattr(importlib.import_module(name), member)
    try:
        yield
    finally:
        del sys.modules[name]


def find_configuration(base: Path) -> Path | None:
    """Find the hook's configuration where SageMaker puts it, or where smdebug's own variable points."""
    path = Path(os.environ.get("SMDEBUG_CONFIG_FILE_PATH", base / "input/config/debughookconfig.json"))
    return path if path.is_file() else None


def find_tensors(given: Path | None) -> str | None:
    """Return the tensor folder that SageMaker's file names: smdebug refuses to write into one that exists."""
    return json.loads(given.read_text()).get("LocalPath") if given else None


def find_exploded(network: nn.Module) -> str:
    """Return the name of a weight that holds infinity or NaN, or an empty string."""
    return next((name for name, weight in network.named_parameters() if not is_finite(weight.detach())), "")


def is_finite(values: torch.Tensor) -> bool:
    """Return whether all values are finite. A sum that is says so; one that is not may only be too large a number."""
    return math.isfinite(values.sum()) or bool(torch.isfinite(values).all())


def empty(folder: Path) -> None:
    """Delete a folder's content but keep the folder: SageMaker made it, watches it and uploads from it."""
    for path in folder.glob("*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_rules(
    folder: Path, rules: list[dict[str, Any]], *, reason: str | None = None, interval: int = 0, seconds: float = 0.0
) -> None:
    """Write rules.json; a reason says why there are no rules, or why they ended early."""
    hook = {
        "available": reason is None,
        "reason": reason,
        "save_interval": interval,
        "reader_seconds": round(seconds, 3),
    }
    write_json(folder / "rules.json", {"format": FORMAT, "rules": rules, "hook": hook})


class Debugger(Hook):
    """Save tensors of the loop, judge them in another thread, judge the loop's course, and end it when told to."""

    def __init__(
        self,
        job_folder: Path,
        given: Path | None,
        facts: Facts | None,
        stop_on_rules: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        self.folder, self.given, self.facts, self.say = job_folder, given, facts, say
        self.stop_on_rules = tuple(stop_on_rules)
        self.course = begin_course(facts)
        self.verdicts = [CourseVerdict(rule()) for rule in COURSE_RULES.values()]
        self.lock = threading.Lock()
        self.watcher: Any = None
        self.reader: Any = None
        self.learner: Learner | None = None
        self.exploded: tuple[int, str] | None = None  # the step at which a weight was found to be no finite number
        self.interval = 0
        self.reason: str | None = find_fault() or None
        self.stop: dict[str, Any] | None = None

    def on_start(self, learner: Learner) -> None:
        """Attach the hook. Tensors of an earlier life of this job are dropped: their steps would mix with these."""
        (self.folder / "rule-stop.json").unlink(missing_ok=True)
        self.learner = learner
        if self.reason:
            self.say(f"WARNING: {self.reason}: no tensors are saved; the training goes on")
            return
        try:
            self.begin(learner)
        except Exception as error:  # noqa: BLE001  whatever smdebug meets, the training goes on
            self.give_up(error)

    def begin(self, learner: Learner) -> None:
        from debugger.hook import attach, choose_interval
        from debugger.reader import Reader

        self.interval = choose_interval(learner.schedule.total_steps)
        folder = self.folder / "debug"
        empty(Path(find_tensors(self.given) or folder))
        self.watcher = attach(learner.network, learner.criterion, self.interval, folder, self.given)
        self.reader = Reader(Path(self.watcher.watch.out_dir), lambda _: self.write())
        self.reader.start()

    def on_phase(self, phase: str) -> None:
        if self.watcher:
            self.watcher.set_phase(phase)

    def on_batch(self, *_: Any) -> None:
        """See to it that a step of which something is saved is a plain one: a replayed one calls no hooks."""
        if self.watcher and self.learner and self.learner.replay and self.watcher.watch.saves_next():
            self.learner.is_looked_into = True

    def on_step(self, *_: Any) -> None:
        if self.watcher and self.learner and self.learner.was_replayed:
            self.watcher.watch.attempt(self.watcher.watch.pass_over)
        self.check()
        if self.course.records:
            self.obey()

    def on_epoch(self, record: dict[str, Any]) -> None:
        if self.watcher:
            self.watcher.record_valid_loss(record["valid"]["loss"])
        add_epoch(self.course, record, self.facts)
        exploded = find_exploded(self.learner.network) if self.learner and not self.exploded else ""
        self.exploded = (self.course.step, exploded) if exploded else self.exploded
        self.look()
        self.obey()

    def on_end(self) -> None:
        """Judge what is left and write rules.json."""
        if self.watcher:
            self.watcher.close()
            self.check()
        if self.reader:
            self.reader.finish()
        self.course.ended = True
        self.look()

    def look(self) -> None:
        """Judge the course as it is now, and write what all rules say."""
        self.course.losses = list(self.reader.losses) if self.reader else ()
        for verdict in self.verdicts:
            verdict.look(self.course)
        self.write()

    def compare(self, baseline: dict[str, Any]) -> None:
        """Judge the training once more, now that its baseline is known."""
        self.course.baseline = baseline
        self.look()

    def check(self) -> None:
        """Check whether smdebug failed in this step."""
        if self.watcher and self.watcher.watch.trouble:
            self.give_up(self.watcher.watch.trouble)

    def write(self) -> None:
        """Write what the rules say, and note whether one of them is to end the training. Two threads come here."""
        with self.lock:
            tensors = list(self.reader.verdicts) if self.reader else []
            reason = self.reason or (self.reader.trouble if self.reader else "") or None
            said = [each.describe() for each in (*self.verdicts, *tensors)]
            known = {entry["name"] for entry in said}
            said += [not_judge(name, reason or "no tensors were saved") for name in ADVICE if name not in known]
            said = [self.complete(entry) for entry in said]
            seconds = self.reader.seconds if self.reader else 0.0
            write_rules(self.folder, rank(said), reason=reason, interval=self.interval, seconds=seconds)
            self.stop = self.stop or find_stop([*tensors, *self.verdicts], self.stop_on_rules)

    def complete(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Add what an epoch's end shows to the entry of ExplodingTensor: a training may diverge between two saves."""
        if not self.exploded or entry["name"] != "ExplodingTensor" or entry["status"] == FOUND:
            return entry
        step, name = self.exploded
        told = f"step {step}: {name} is not a finite number"
        return describe_verdict("ExplodingTensor", FOUND, told, entry["parameters"], [step])

    def obey(self) -> None:
        """End the training if a rule asks for it; never in the first epoch, before there is a model to keep."""
        if self.stop:
            write_json(self.folder / "rule-stop.json", self.stop)
            raise Stopped(f"rule {self.stop['rule']} ended the training ({self.stop['reason']})")

    def give_up(self, error: Exception) -> None:
        """Continue without tensors."""
        self.reason = f"smdebug failed ({type(error).__name__}: {error})"
        self.say(f"WARNING: {self.reason}: no more tensors are saved; the training goes on")
        self.watcher = None
        self.write()
