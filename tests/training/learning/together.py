"""Train a small network as one of several processes, and write what came of it: a program for the tests of teams."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import torch
from images.augment import DRAWS, augment
from images.data import Batches
from learning.engine import Learner, Progress, fit
from learning.steps.team import PeerLost, Team, join
from torch import nn

CPU = torch.device("cpu")
IMAGES = torch.randint(0, 256, (23, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(23) % 3
STEPS, EPOCHS = 4, 2  # 23 images in four batches: three of 6, of which two processes have 3 each, and one of 5
REASON = "the labels of process 1 are gone"


def change(images: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    return augment(images, chance, size=8, flip=True, mean=(0.5,) * 3, std=(0.25,) * 3).double()


def train(team: Team, *, learns_statistics: bool) -> dict[str, Any]:
    """Train, and return the weights, what the epochs' records say, and the answers before and after."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    batches = Batches(IMAGES.__getitem__, LABELS, change, batch_size=6, seed=1, device=CPU, draws=DRAWS)
    batches.share(team.rank, team.size)
    frozen = [] if learns_statistics else [network[1]]
    whole = network.double()
    learner = Learner(whole, rate=0.05, weight_decay=0.01, steps=EPOCHS * STEPS, device=CPU, frozen=frozen)
    learner.team = team
    judged = [part.double() / 255 for part in IMAGES.split(5)]
    before, records = learner.judge(judged), list[dict[str, Any]]()
    ignored = {"patience": 0, "objective": "score", "seed": 0, "save": lambda _: None}
    progress = Progress()
    fit(learner, batches, lambda: {"score": 0.0}, epochs=EPOCHS, progress=progress, report=records.append, **ignored)
    sums = [(record["train"]["loss"], record["train"]["accuracy"], record["images"]) for record in records]
    return {"weights": whole.state_dict(), "before": before, "after": learner.judge(judged), "sums": sums}


def act(case: str, team: Team) -> Any:
    """Do what a test asks this process for."""
    if case == "killed" and team.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if case == "failed" and team.rank == 1:
        raise ValueError(REASON)
    return train(team, learns_statistics=case != "exact")


def main() -> int:
    rank, size, out = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), os.environ["OUT"]
    torch.set_num_threads(1)
    try:
        with join(rank, size, place=rank, on_gpu=False, explain=str) as team:
            torch.save(act(os.environ["CASE"], team), out)
    except PeerLost as lost:
        torch.save(str(lost), out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
