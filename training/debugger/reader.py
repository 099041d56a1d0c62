"""Read what the hook saves while the training runs, and judge it by the rules on tensors. Imports smdebug, so only
watch.py imports this module, and does so in a try.

The reader is a thread. After each pass it sleeps long enough to take no more than SHARE of the time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smdebug import modes
from smdebug.exceptions import (
    RuleEvaluationConditionMet,
    StepUnavailable,
    TensorUnavailable,
    TensorUnavailableForStep,
)
from smdebug.trials import create_trial

from debugger.saving import ValueReader
from debugger.tensor_rules import LOSS, TENSOR_RULES, HealthRule, Readings
from debugger.verdicts import CLEAN, ERROR, FOUND, NOT_JUDGED, describe_verdict

SHARE = 0.03
SHORTEST_REST = 0.5


class TensorVerdict:
    """What a rule has said so far: SageMaker's status, and the training steps at which it found something."""

    def __init__(self, rule: HealthRule) -> None:
        self.rule, self.name = rule, rule.rule_name
        self.steps: list[int] = []
        self.first = ""
        self.error = ""

    def judge(self, step: int) -> None:
        """Invoke the rule at a global step. A rule that raises an error reports it and is not invoked again."""
        if self.error:
            return
        try:
            self.rule.invoke(step)
        except (TensorUnavailable, TensorUnavailableForStep, StepUnavailable):
            return
        except RuleEvaluationConditionMet:
            self.steps.append(self.number(step))
            self.first = self.first or f"step {self.steps[0]}: {self.rule.finding}"
        except Exception as error:  # noqa: BLE001  one broken rule must not silence the others
            self.error = f"{type(error).__name__}: {error}"

    def number(self, step: int) -> int:
        """Convert smdebug's count of all forward passes into the training's count of steps."""
        trial = self.rule.base_trial
        if trial.mode(step) == modes.TRAIN:
            return int(trial.mode_step(step))
        return int(
            max(
                (
                    trial.mode_step(other)
                    for other in trial.steps()
                    if other < step and trial.mode(other) == modes.TRAIN
                ),
                default=0,
            )
        )

    @property
    def status(self) -> str:
        if self.error:
            return ERROR
        return FOUND if self.steps else CLEAN if self.rule.judged else NOT_JUDGED

    def describe(self) -> dict[str, Any]:
        """Return the rule's entry in rules.json."""
        details = self.error or self.explain()
        return describe_verdict(self.name, self.status, details, self.rule.parameters, self.steps)

    def explain(self) -> str:
        """Return one sentence on what was found: the last finding and how many there were, or why there is none."""
        if self.steps:
            return f"{self.first}; found at {len(self.steps)} of the saved steps"
        if self.rule.judged:
            return f"{len(self.rule.judged)} saved steps were looked at"
        return f"nothing to judge: no {self.rule.NEEDS} were saved"


class Reader(threading.Thread):
    """Follow a trial. `on_pass` gets the verdicts after each pass that read something."""

    def __init__(
        self,
        folder: Path,
        on_pass: Callable[[list[TensorVerdict]], None],
    ) -> None:
        super().__init__(name="debugger rules", daemon=True)
        self.folder, self.on_pass = folder, on_pass
        self.ended = threading.Event()
        self.readings: Readings | None = None
        self.verdicts: list[TensorVerdict] = []
        self.losses: list[tuple[int, float]] = []  # (training step, loss) of the saved steps
        self.newest = -1
        self.seconds = 0.0
        self.trouble = ""

    def run(self) -> None:
        rest, seen = SHORTEST_REST, 0
        while not self.ended.wait(rest) and not self.trouble:
            rest, (before, seen) = SHORTEST_REST, (seen, self.find_change())
            if seen != before:
                rest = max(SHORTEST_REST, self.read() / SHARE)

    def find_change(self) -> int:
        """Return when a step was last saved, so that smdebug need not look through all files for none."""
        try:
            return max((folder.stat().st_mtime_ns for folder in self.folder.glob("index/*")), default=0)
        except OSError:
            return 0

    def finish(self) -> None:
        """Stop the thread and read what is left."""
        self.ended.set()
        if self.ident is not None:
            self.join()
        self.read()

    def read(self) -> float:
        """Judge the new steps; return the processor time used, in seconds."""
        begun = time.thread_time()
        try:
            self.read_new()
        except Exception as error:  # noqa: BLE001  the training goes on whatever a file holds
            self.trouble = f"the tensors cannot be read ({type(error).__name__}: {error})"
        taken = time.thread_time() - begun
        self.seconds += taken
        return taken

    def read_new(self) -> None:
        trial = self.open()
        if trial is None or self.readings is None:
            return
        # smdebug looks for new files at every query; once a pass is enough.
        trial.loaded_all_steps = False
        trial.refresh_data()
        trial.loaded_all_steps = True
        new = [step for step in trial.steps() if step > self.newest]
        for step in new:
            for verdict in self.verdicts:
                verdict.judge(step)
            self.note_loss(trial, step)
            self.readings.forget()
            self.newest = step
        if new:
            self.on_pass(self.verdicts)

    def note_loss(self, trial: Any, step: int) -> None:
        """Keep the loss of a training step, for the rules on the training's course."""
        if self.readings is None or trial.mode(step) != modes.TRAIN:
            return
        for name in self.readings.names(step, LOSS)[:1]:
            self.losses.append((int(trial.mode_step(step)), float(self.readings.value(name, step).mean())))

    def open(self) -> Any:
        """Open the trial once it can be read: smdebug itself would wait for it forever."""
        if self.readings is None and any(self.folder.glob("collections/*/*_collections.json")):
            trial = create_trial(str(self.folder))
            trial.index_reader.fetch_tensor_value = ValueReader(trial.index_reader.fetch_tensor_value)
            self.readings = Readings(trial)
            self.verdicts = [TensorVerdict(rule(self.readings)) for rule in TENSOR_RULES.values()]
        return self.readings.trial if self.readings else None
