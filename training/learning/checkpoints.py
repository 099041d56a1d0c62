"""Save and restore the state from which an interrupted training resumes: one file, replaced atomically.

SageMaker mirrors the folder while the job runs and restores it before the job starts again. A checkpoint that another
job, program or dataset left is ignored, because its fingerprint differs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from learning.engine import Learner, Progress, Totals

FORMAT = 1


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Return a hash of what a training depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Checkpoint:
    """checkpoint.pt of one job."""

    def __init__(self, folder: Path, mark: str) -> None:
        self.path = folder / "checkpoint.pt"
        self.mark = mark

    def save(self, learner: Learner, progress: Progress) -> None:
        """Write the new state beside the old one, then replace it: a kill leaves one of the two, complete."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        known = {**vars(progress), "totals": asdict(progress.totals)}
        torch.save({"format": FORMAT, "mark": self.mark, "progress": known, "learner": learner.state()}, partial)
        partial.replace(self.path)

    def resume(self, learner: Learner, log: Callable[[str], None]) -> Progress:
        """Restore the learner from a complete checkpoint of this training, if there is one. Return its progress."""
        if not self.path.exists():
            return Progress()
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001  torch raises whatever its unpickler meets in a damaged file
            log(f"{self.path.name} cannot be read and is passed over ({type(error).__name__}): training from the start")
            return Progress()
        if state.get("format") != FORMAT or state.get("mark") != self.mark:
            log(f"{self.path.name} is of another training and is passed over: training from the start")
            return Progress()
        learner.restore(state["learner"])
        known = state["progress"]
        return Progress(**{**known, "totals": Totals(**known["totals"])})

    def remove(self) -> None:
        """Delete the state once the training has finished."""
        self.path.unlink(missing_ok=True)
