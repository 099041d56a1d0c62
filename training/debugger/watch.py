"""Run the debugger of the profiled training: smdebug's hook saves tensors, and rules judge them until the job ends.

smdebug is imported only here, late, and in a try: without it the training goes on and says so. Results are in
rules.json; a rule that is configured to do so may end the training (rule-stop.json).
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from job.artifact import write_json
from job.metrics import log
from learning.engine import Hook, Learner, Stopped

FORMAT = 1
# Near the end of the training: before that, even a network that learns well still confuses classes.
LATE = 0.8
QUIET = {
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",  # smdebug's messages need an older protobuf
    "SMDEBUG_LOG_LEVEL": "error",
    "SMDEBUG_TRAINING_END_DELAY_REFRESH": "0",
    # With SageMaker's file smdebug would scan the checkpoint folder at each step, and write its own state there.
    "CHECKPOINT_CONFIG_FILE_PATH": os.devnull + "/none",
}


def make_debugger(
    job_folder: Path, base: Path, *, stop_on_rules: Sequence[str] = (), say: Callable[[str], None] = log
) -> Hook | None:
    """Return the hook for the loop, or None where smdebug is missing: then a warning is logged and rules.json says why.

    base: SageMaker's /opt/ml, where debughookconfig.json may lie.
    """
    os.environ.update(QUIET)
    try:
        for name in ("debugger.hook", "debugger.reader"):
            importlib.import_module(name)
    except Exception as error:  # noqa: BLE001  a half-installed package can raise anything
        reason = f"smdebug cannot be imported ({type(error).__name__}: {error})"
        say(f"WARNING: {reason}: no tensors are saved and no rules are run; the training goes on")
        write_rules(job_folder, [], reason=reason)
        return None
    return Debugger(job_folder, find_configuration(base), stop_on_rules, say)


def find_configuration(base: Path) -> Path | None:
    """Find the hook's configuration where SageMaker puts it, or where smdebug's own variable points."""
    path = Path(os.environ.get("SMDEBUG_CONFIG_FILE_PATH", base / "input/config/debughookconfig.json"))
    return path if path.is_file() else None


def find_tensors(given: Path | None) -> str | None:
    """Return the tensor folder that SageMaker's file names: smdebug refuses to write into one that exists."""
    return json.loads(given.read_text()).get("LocalPath") if given else None


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
    """Save tensors of the loop, judge them in another thread, and end the loop when a rule is configured to."""

    def __init__(
        self, job_folder: Path, given: Path | None, stop_on_rules: Sequence[str], say: Callable[[str], None]
    ) -> None:
        self.folder, self.given, self.stop_on_rules, self.say = job_folder, given, tuple(stop_on_rules), say
        self.watcher: Any = None
        self.reader: Any = None
        self.learner: Learner | None = None
        self.interval = 0
        self.epochs = 0
        self.reason: str | None = None
        self.stop: dict[str, Any] | None = None

    def on_start(self, learner: Learner) -> None:
        """Attach the hook. Tensors of an earlier life of this job are dropped: their steps would mix with these."""
        try:
            self.begin(learner)
        except Exception as error:  # noqa: BLE001  whatever smdebug meets, the training goes on
            self.give_up(error)

    def begin(self, learner: Learner) -> None:
        from debugger.hook import attach, choose_interval
        from debugger.reader import Reader

        steps = learner.schedule.total_steps
        self.interval = choose_interval(steps)
        folder = self.folder / "debug"
        empty(Path(find_tensors(self.given) or folder))
        (self.folder / "rule-stop.json").unlink(missing_ok=True)
        self.learner = learner
        self.watcher = attach(learner.network, learner.criterion, self.interval, folder, self.given)
        parameters = {"Confusion": {"start_step": int(LATE * steps)}}
        self.reader = Reader(Path(self.watcher.watch.out_dir), parameters, self.take)
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
        if self.epochs:
            self.obey()

    def on_epoch(self, record: dict[str, Any]) -> None:
        self.epochs += 1
        if self.watcher:
            self.watcher.record_valid_loss(record["valid"]["loss"])
        self.obey()

    def on_end(self) -> None:
        """Judge what is left and write rules.json."""
        if self.watcher:
            self.watcher.close()
            self.check()
        if self.reader:
            self.reader.finish()
            self.take(self.reader.verdicts)

    def check(self) -> None:
        """Check whether smdebug failed in this step."""
        if self.watcher and self.watcher.watch.trouble:
            self.give_up(self.watcher.watch.trouble)

    def take(self, verdicts: list[Any]) -> None:
        """Record what the rules say, and whether one of them is to end the training."""
        from debugger.reader import find_stop

        reason = self.reason or self.reader.trouble or None
        described = [verdict.describe() for verdict in verdicts]
        write_rules(self.folder, described, reason=reason, interval=self.interval, seconds=self.reader.seconds)
        self.stop = self.stop or find_stop(verdicts, self.stop_on_rules)

    def obey(self) -> None:
        """End the training if a rule asks for it; never in the first epoch, before there is a model to keep."""
        if self.stop:
            write_json(self.folder / "rule-stop.json", self.stop)
            raise Stopped(f"rule {self.stop['rule']} ended the training ({self.stop['reason']})")

    def give_up(self, error: Exception) -> None:
        """Continue without the debugger."""
        self.reason = f"smdebug failed ({type(error).__name__}: {error})"
        self.say(f"WARNING: {self.reason}: no more tensors are saved; the training goes on")
        self.watcher = None
        if self.reader is None:
            write_rules(self.folder, [], reason=self.reason)
