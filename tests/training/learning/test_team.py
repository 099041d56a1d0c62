"""Processes that train together do what one process does, and end together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from images.data import Batches
from learning.steps.team import LOST, Team

from localcloud.jobs.entry_points import LOOPBACK, find_port
from tests.training.learning import together
from tests.training.tiny import ROOT, Template


def start(template: Template, folder: Path, case: str) -> list[int]:
    """Start two processes that train together, and return their process ids."""
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_port()), "CASE": case, **LOOPBACK}
    script = {"script": str(Path(together.__file__)), "argv": [], "cwd": str(ROOT / "training")}
    return [
        template.start(
            {
                **script,
                "environ": {**common, "RANK": str(rank), "OUT": str(folder / f"{rank}.pt")},
                "log": str(folder / f"{rank}.log"),
            }
        )
        for rank in range(2)
    ]


def run(template: Template, folder: Path, case: str) -> list[Any]:
    """Return what two processes write."""
    codes = [template.wait(pid) for pid in start(template, folder, case)]
    assert codes == [0, 0], (folder / "0.log").read_text() + (folder / "1.log").read_text()
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def find_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_two_processes_train_what_one_trains(template: Template, tmp_path: Path) -> None:
    """Eight steps of uneven parts in double precision, BatchNorm keeping its statistics: equal to 1e-9.

    The sums of the epochs agree, and what the same weights answer has the same bits.
    """
    alone, together_ = together.train(Team(), learns_statistics=False), run(template, tmp_path, "exact")
    for each in together_:
        assert find_difference(each["weights"], alone["weights"]) < 1e-9
        assert torch.equal(each["before"], alone["before"])
        assert torch.equal(each["after"].argmax(1), alone["after"].argmax(1))
        assert [sums[1:] for sums in each["sums"]] == [sums[1:] for sums in alone["sums"]]
        assert [sums[0] for sums in each["sums"]] == pytest.approx([sums[0] for sums in alone["sums"]], abs=1e-9)
    assert find_difference(alone["weights"], together.train(Team(), learns_statistics=True)["weights"]) > 1e-3


def test_processes_that_learn_statistics_hold_equal_weights(template: Template, tmp_path: Path) -> None:
    """Each process normalises by its own part; weights and statistics are the same bits everywhere all the same."""
    first, second = run(template, tmp_path, "statistics")
    assert find_difference(first["weights"], second["weights"]) == 0
    assert torch.equal(first["after"], second["after"])
    assert first["sums"] == second["sums"]


def test_a_process_that_fails_tells_the_others_why(template: Template, tmp_path: Path) -> None:
    """The other ends with the same reason, whichever of them SageMaker asks."""
    first, second = [template.wait(pid) for pid in start(template, tmp_path, "failed")]
    assert (first, second) == (0, 1)
    assert torch.load(tmp_path / "0.pt", weights_only=False) == together.REASON


def test_a_process_that_is_killed_ends_the_others(template: Template, tmp_path: Path) -> None:
    """It could not say why, and the others say so instead of waiting for it."""
    first, second = [template.wait(pid) for pid in start(template, tmp_path, "killed")]
    assert (first, second) == (0, -9)
    assert torch.load(tmp_path / "0.pt", weights_only=False) == LOST


def test_parts_of_a_batch_make_the_batch() -> None:
    """Together the processes see every image of every batch once, in its order, with its own random numbers."""
    about = {"batch_size": 6, "seed": 1, "device": together.CPU, "draws": together.DRAWS}
    made = [Batches(together.IMAGES.__getitem__, together.LABELS, together.change, **about) for _ in range(4)]
    for rank, batches in enumerate(made[1:]):
        batches.share(rank, 3)
    whole, *parts = ([*batches.of_epoch(1)] for batches in made)
    for number, (inputs, labels) in enumerate(whole):
        assert torch.equal(torch.cat([part[number][0] for part in parts]), inputs)
        assert torch.equal(torch.cat([part[number][1] for part in parts]), labels)
