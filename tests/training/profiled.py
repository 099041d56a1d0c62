"""Set up a tiny training inside the test's process, with or without a decoded cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from job.settings import Hyperparameters, Job, Places
from learning.engine import Hook, Progress, fit
from learning.preparation import Course, Setup, make_course, prepare

from tests.training.tiny import shapes_zip

COUNTS = {"train": 24, "valid": 6, "test": 6}


def make_job(folder: Path, content: bytes | None = None) -> Job:
    """Return a job with its folders below `folder`, on a zip of shapes unless another is given."""
    channel = folder / "input"
    channel.mkdir(parents=True, exist_ok=True)
    (channel / "dataset.zip").write_bytes(content or shapes_zip(COUNTS))
    names = {name: folder / name for name in ("model", "output", "checkpoints", "code")}
    return Job("whippet-test-1-train", Places(dataset=channel, weights=None, **names), threads=1, gpus=0)


def set_up(folder: Path, content: bytes | None = None, **chosen: Any) -> tuple[Setup, Course]:
    """Return a job as it is just before its training begins."""
    defaults = {"image_size": 16, "batch_size": 8, "epochs": 3, "pretrained": "none", "profile": True}
    setup = prepare(make_job(folder, content), Hyperparameters(**{**defaults, **chosen}))
    return setup, make_course(setup)


def train(course: Course, hooks: Sequence[Hook], epochs: int = 2) -> list[dict[str, Any]]:
    """Train with the hooks; return the records of the epochs."""
    records: list[dict[str, Any]] = []
    known = {"patience": 0, "objective": "score", "seed": 0, "progress": Progress(), "save": lambda _: None}
    fit(
        course.learner,
        course.batches,
        course.validate,
        epochs=epochs,
        report=records.append,
        hooks=hooks,
        **known,
    )
    return records


class Tape:
    """Records without doing, and counts. flaw: is added to the weights by each replay."""

    def __init__(self, flaw: Callable[[], None] = lambda: None) -> None:
        self.flaw, self.records, self.replays = flaw, 0, 0

    def aside(self, act: Callable[[], None]) -> None:
        act()

    def record(self, act: Callable[[], None]) -> Callable[[], None]:
        self.records += 1

        def replay() -> None:
            self.replays += 1
            act()
            self.flaw()

        return replay
