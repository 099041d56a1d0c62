"""Tests of what a recipe may add to the steps: clipping, a rate of the head's own, averages, more augmentation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from images.augment import DRAWS, MORE_DRAWS, augment, augment_more
from learning.checkpoints import Checkpoint
from learning.engine import Learner, Stopped, restore_best
from learning.steps.technique import Technique
from torch import nn

from tests.training.learning.test_engine import CPU, train, weights
from tests.training.tiny import Runner


def learner(**technique: float) -> Learner:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    own = Technique(**technique, head=network[2])
    return Learner(network, rate=0.1, weight_decay=0.01, steps=30, device=CPU, technique=own)


def test_a_gradient_is_clipped() -> None:
    """A step's gradient has at most the given norm; without a limit it is left as it is."""
    norms = []
    for limit in (0.0, 0.01):
        own = learner(clip_norm=limit)
        own.set_training()
        own.learn(torch.tensor([[-9.0], [9.0]]), torch.tensor([1, 0]))
        norms.append(float(torch.stack([each.grad.norm() for each in own.network.parameters()]).norm()))
    assert norms[0] > 0.01
    assert norms[1] == pytest.approx(0.01, rel=1e-3)


def test_the_head_has_a_rate_of_its_own() -> None:
    """The other layers keep theirs, the schedule moves both alike, and biases are not decayed in either."""
    own = learner(head_rate=5.0)
    rates = {round(group["max_lr"], 6) for group in own.optimizer.param_groups}
    assert rates == {0.1, 0.5}
    for group in own.optimizer.param_groups:
        head = any(each is group["params"][0] for each in own.network[2].parameters())
        assert group["max_lr"] == pytest.approx(0.5 if head else 0.1)
        assert (group["weight_decay"] > 0) == (group["params"][0].ndim > 1)
    assert len(learner().optimizer.param_groups) == 2


def test_the_average_is_judged_and_kept_and_the_training_goes_on_from_its_own_weights() -> None:
    """Between epochs the network holds the average; what is trained is the same as without one."""
    plain, averaged, seen = learner(), learner(averaging=0.9), []
    train(plain, [0.1, 0.2, 0.3])
    progress = train(averaged, [0.1, 0.9, 0.3], report=lambda _: seen.append(weights(averaged)))
    restore_best(averaged.network, progress)
    assert weights(averaged) == seen[1]
    averaged = learner(averaging=0.9)
    train(averaged, [0.1, 0.2, 0.3])
    assert weights(averaged) != weights(plain)
    averaged.show_average(False)
    assert weights(averaged) == weights(plain)


@pytest.mark.parametrize("stop_at", [1, 3, 4, 5, 8])
def test_an_averaged_training_resumes_to_the_same_weights(tmp_path: Path, stop_at: int) -> None:
    """The checkpoint holds both, and which of them the network has."""
    scores = [0.1, 0.9, 0.2]
    whole = learner(averaging=0.9)
    expected = train(whole, scores)
    checkpoint, first, steps = Checkpoint(tmp_path, "mark"), learner(averaging=0.9), iter(range(1, 99))
    with pytest.raises(Stopped):
        train(
            first, scores, save=lambda known: checkpoint.save(first, known), stop_asked=lambda: next(steps) == stop_at
        )
    second = learner(averaging=0.9)
    resumed = train(second, scores, checkpoint.resume(second, print))
    assert weights(second) == weights(whole)
    for own, progress in ((second, resumed), (whole, expected)):
        restore_best(own.network, progress)
    assert weights(second) == weights(whole)


def test_more_augmentation_changes_each_image_once_more() -> None:
    """Every kind of change occurs, an image without one looks as usual, and levels stay levels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (200, 3, 12, 12), generator=generator, dtype=torch.uint8)
    chance = torch.rand((200, MORE_DRAWS), generator=generator)
    more = augment_more(images, chance, size=12, flip=False, mean=(0, 0, 0), std=(1, 1, 1))
    assert more.shape == (200, 3, 12, 12)
    assert float(more.min()) >= 0
    assert float(more.max()) <= 1
    still = chance.clone()
    still[:, 8] = 5.5 / 11  # the kind that changes nothing
    usual = augment(images, chance[:, :DRAWS], size=12, flip=False, mean=(0, 0, 0), std=(1, 1, 1))
    bare = augment_more(images, still, size=12, flip=False, mean=(0, 0, 0), std=(1, 1, 1))
    changed = (more - bare).abs().amax(dim=(1, 2, 3)) > 1e-4
    kinds = (chance[:, 8] * 11).long()
    assert {int(kind) for kind in kinds[changed]} == set(range(11)) - {5}
    assert usual.shape == bare.shape


def test_a_job_may_use_all_of_it(runner: Runner) -> None:
    """Together they train, and the manifest says what was used."""
    used = {"averaging": "0.9", "clip_norm": "1", "head_rate": "3", "augmentation": "trivial", "imbalance": "sample"}
    code, log = runner.run(used)
    assert code == 0, log
    told = runner.read("model/manifest.json")["hyperparameters"]
    assert (told["averaging"], told["clip_norm"], told["head_rate"]) == (0.9, 1.0, 3.0)
    assert (told["augmentation"], told["imbalance"]) == ("trivial", "sample")
    assert runner.evaluation()["test"]["accuracy"] > 0.4


@pytest.mark.parametrize("given", [{"averaging": "1"}, {"head_rate": "0"}, {"clip_norm": "-1"}, {"mixup": "nan"}])
def test_what_cannot_be_used_is_refused(runner: Runner, given: dict[str, str]) -> None:
    """An average that keeps everything would never learn."""
    code, _ = runner.run(given)
    assert code != 0
    assert f"hyperparameter {next(iter(given))} is" in runner.failure()
