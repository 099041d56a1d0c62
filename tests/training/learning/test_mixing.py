"""Tests of MixUp and CutMix: what is mixed with what, that labels say as much, and that every run mixes the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from judging.deciding.imbalance import AdjustedLoss
from learning.checkpoints import Checkpoint
from learning.engine import Learner, Stopped
from learning.preparation import make_course
from learning.replaying import allow_replay
from learning.steps.mixing import Mixing
from torch import nn

from tests.training.learning.test_steps import make_learner, read_state, train
from tests.training.profiled import Tape, set_up
from tests.training.tiny import Runner

ALPHAS = st.sampled_from((0.0, 0.01, 0.2, 1.0, 10.0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(0, 2**31), ALPHAS, ALPHAS, st.integers(1, 30), st.integers(1, 40))
def test_labels_say_as_much_of_another_image_as_there_is_of_it(
    seed: int, mixup: float, cutmix: float, count: int, side: int
) -> None:
    """Whatever the ways, sizes and shares: an image of ones holds as many as its label has of the class of ones."""
    mixing = Mixing(mixup, cutmix, 2, side)
    ones = torch.arange(count + 1) % 2
    inputs = ones.view(-1, 1, 1, 1).expand(-1, 3, side, side).float()
    mixed, shares = mixing.mix(inputs, ones, mixing.draw(count, seeded(seed)))
    assert mixed.shape == (count, 3, side, side)
    assert shares.shape == (count, 2)
    assert float(mixed.min()) >= 0
    assert float(mixed.max()) <= 1
    assert torch.allclose(mixed.mean(dim=(1, 2, 3)), shares[:, 1], atol=1e-5)
    assert torch.allclose(shares.sum(1), torch.ones(count))


@pytest.mark.parametrize(
    ("mixup", "cutmix", "blended", "boxed"), [(0.2, 0, True, False), (0, 1, False, True), (1, 1, True, True)]
)
def test_the_recipe_says_in_which_way_images_are_mixed(mixup: float, cutmix: float, blended: bool, boxed: bool) -> None:
    """A blend is everywhere between the two, and a box is one image or the other; with both there are some of each."""
    mixing = Mixing(mixup, cutmix, 2, 16)
    drawn = mixing.draw(400, seeded())
    inputs = torch.arange(401).view(-1, 1, 1, 1).expand(-1, 1, 16, 16).remainder(2).float()
    mixed, _ = mixing.mix(inputs, torch.zeros(401, dtype=torch.long), drawn)
    between = ((mixed > 0.02) & (mixed < 0.98)).flatten(1)
    halves = (mixed.flatten(1).amax(1) - mixed.flatten(1).amin(1)) > 0.9
    assert (bool(between.all(1).any()), bool(halves.any())) == (blended, boxed)
    assert float(drawn[:, 1].mean()) == pytest.approx(0.5 if blended else 0.35, abs=0.12)


def with_mixing(**options: Any) -> tuple[Learner, Any]:
    learner, batches = make_learner(**options)
    batches.mixing = Mixing(0.4, 1.0, 3, 8)
    learner.criterion = AdjustedLoss(torch.tensor([17, 17, 16]))
    return learner, batches


@pytest.mark.parametrize("ranks", [1, 3])
def test_processes_mix_what_one_mixes(ranks: int) -> None:
    """Each image is mixed with the one before it in the whole batch, the first with the last."""
    plain, whole = make_learner()[1], with_mixing()[1]
    parts = [with_mixing()[1] for _ in range(ranks)]
    for rank, batches in enumerate(parts):
        batches.share(rank, ranks)
    given_ = [list(each.of_epoch(2, 1)) for each in (plain, whole, *parts)]
    drawn = whole.mixing.draw(50, whole.generator(2, "mixing")).tensor_split(whole.steps)[1:]
    for number, ((inputs, labels), (mixed, shares), *own) in enumerate(zip(*given_, strict=True)):
        again = torch.cat([inputs[-1:], inputs]), torch.cat([labels[-1:], labels])
        expected = whole.mixing.mix(*again, drawn[number])
        assert torch.equal(mixed, expected[0])
        assert torch.equal(shares, expected[1])
        assert torch.equal(torch.cat([each[0] for each in own]), mixed)
        assert torch.equal(torch.cat([each[1] for each in own]), shares)


def test_replayed_and_resumed_trainings_mix_the_same(tmp_path: Path) -> None:
    """Weights, moments, loss and accuracy have the bits of a plain training that nobody stopped."""
    whole, batches = with_mixing()
    records = train(whole, batches)
    assert records != train(*make_learner())
    replayed, same = with_mixing()
    assert allow_replay(replayed, same, Tape())
    assert train(replayed, same) == records
    assert read_state(replayed) == read_state(whole)
    checkpoint, steps, (first, same) = Checkpoint(tmp_path, "mark"), iter(range(1, 99)), with_mixing()
    options = {"save": lambda known: checkpoint.save(first, known), "stop_asked": lambda: next(steps) == 12}
    with pytest.raises(Stopped):
        train(first, same, **options)
    second, same = with_mixing()
    train(second, same, progress=checkpoint.resume(second, print))
    assert read_state(second) == read_state(whole)


def test_a_loss_in_half_precision_takes_shares() -> None:
    """Steps on a processor or a GPU that compute in bfloat16 give the gradient of the same loss, about."""
    logits, shares = torch.randn(8, 3, generator=seeded()), torch.rand(8, 3, generator=seeded(1)).softmax(1)
    layer = nn.Linear(3, 3)
    layer.requires_grad_(False)
    for criterion in (nn.CrossEntropyLoss(), AdjustedLoss(torch.tensor([9, 3, 1]))):
        exact = criterion(layer(logits), shares)
        with torch.autocast("cpu", torch.bfloat16):
            assert float(criterion(layer(logits), shares)) == pytest.approx(float(exact), rel=0.02)


def test_a_job_mixes_and_its_bits_repeat(runner: Runner) -> None:
    """With adjusted logits and both ways, twice: the same weights; the manifest says what was asked for."""
    used = {"mixup": "0.2", "cutmix": "1", "imbalance": "adjust", "epochs": "2"}
    weights = []
    for _ in range(2):
        code, log = runner.run(used)
        assert code == 0, log
        weights.append(torch.load(runner.model / "model.pth"))
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    told = runner.read("model/manifest.json")["hyperparameters"]
    assert (told["mixup"], told["cutmix"]) == (0.2, 1.0)


def test_a_head_alone_mixes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is trained on features, of which rectangles mean nothing, and the log says so."""
    setup, deep = set_up(tmp_path, cutmix=1.0)
    assert deep.batches.mixing is not None
    course = make_course(replace(setup, chosen=replace(setup.chosen, fine_tune="head")))
    assert course.batches.mixing is None
    assert "nothing is mixed" in capsys.readouterr().out
