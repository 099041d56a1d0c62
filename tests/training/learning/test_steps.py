"""Steps that are replayed give the bits of plain ones. A recorder of the CPU stands for CUDA's: it does as it is told.

On a GPU, `benchmarks/training/gpu.py` compares the two with real graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from images.data import Batches
from learning.checkpoints import Checkpoint
from learning.engine import Hook, Learner, Progress, Stopped, fit
from learning.replaying import allow_replay
from learning.steps.precision import LEAST_SIDE, choose_precision, has_half_precision
from learning.steps.replay import REAL_STEPS, draws_chance
from learning.steps.tally import Tally
from torch import nn

from tests.training.profiled import Tape

CPU = torch.device("cpu")
INPUTS = torch.rand(50, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(50) % 3


class Refusing(Tape):
    """A device that cannot record these steps."""

    def record(self, act: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing")


def make_learner(dropout: float = 0.0, epochs: int = 4) -> tuple[Learner, Batches]:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(4 * 36, 3)
    )
    batches = Batches(
        INPUTS.__getitem__, LABELS, lambda inputs, _: inputs, batch_size=7, seed=1, device=CPU
    )  # 50 in 7 parts: one of 8, six of 7
    return Learner(network, rate=0.05, weight_decay=0.01, steps=epochs * batches.steps, device=CPU), batches


def train(learner: Learner, batches: Batches, epochs: int = 4, **options: Any) -> list[dict[str, Any]]:
    """Train, and return the epochs' records."""
    records: list[dict[str, Any]] = []
    ignored = {"patience": 0, "objective": "score", "seed": 0, "report": records.append}
    defaults = {"progress": Progress(), "save": lambda _: None, **ignored}
    fit(learner, batches, lambda: {"score": 0.0}, epochs=epochs, **{**defaults, **options})
    return [record["train"] for record in records]


def read_state(learner: Learner) -> list[float]:
    moments = [value for state in learner.optimizer.state.values() for value in state.values()]
    return torch.cat(
        [value.double().flatten() for value in [*learner.network.state_dict().values(), *moments]]
    ).tolist()


def test_replayed_steps_give_the_bits_of_plain_ones() -> None:
    """Weights, statistics, moments, loss and accuracy; every size of a batch is recorded once, after real steps."""
    plain, batches = make_learner()
    records, tape = train(plain, batches), Tape()
    replayed, same = make_learner()
    assert allow_replay(replayed, same, tape)
    tape.records = tape.replays = 0
    assert train(replayed, same) == records
    assert read_state(replayed) == read_state(plain)
    assert (tape.records, tape.replays) == (2, 4 * 7 - 2 * REAL_STEPS)


def test_proving_it_leaves_no_trace() -> None:
    """The training begins where it would have begun."""
    learner, batches = make_learner()
    before, schedule, chance = read_state(learner), learner.schedule.last_epoch, torch.get_rng_state()
    assert allow_replay(learner, batches, Tape())
    assert (read_state(learner), learner.schedule.last_epoch) == (before, schedule)
    assert torch.equal(torch.get_rng_state(), chance)
    assert learner.replay is not None
    assert learner.replay.recorded == {}


def test_steps_are_plain_unless_they_are_proven_equal(capsys: pytest.CaptureFixture[str]) -> None:
    """Other bits, a device that cannot record, or a network that draws random numbers; the log says which."""
    learner, batches = make_learner()
    weight = next(learner.network.parameters())
    before = read_state(learner)
    assert not allow_replay(learner, batches, Tape(lambda: weight.data.add_(1e-7)))
    assert not allow_replay(learner, batches, Refusing())
    drawing, same = make_learner(dropout=0.5)
    assert not allow_replay(drawing, same, Tape())
    assert not allow_replay(*make_learner())
    assert (learner.replay, drawing.replay, read_state(learner)) == (None, None, before)
    told = capsys.readouterr().out
    for words in ("not the same bits", "cannot be recorded", "draw random numbers"):
        assert words in told


def test_a_resumed_training_records_anew(tmp_path: Path) -> None:
    """Loading a state replaces tensors, so a graph of before would train what nobody looks at."""
    whole, batches = make_learner()
    train(whole, batches)
    checkpoint, steps = Checkpoint(tmp_path, "mark"), iter(range(1, 99))
    first, same = make_learner()
    allow_replay(first, same, Tape())
    options = {"save": lambda known: checkpoint.save(first, known), "stop_asked": lambda: next(steps) == 12}
    with pytest.raises(Stopped):
        train(first, same, **options)
    second, same = make_learner()
    allow_replay(second, same, Tape())
    progress = checkpoint.resume(second, print)
    assert second.replay is not None
    assert second.replay.recorded == {}
    train(second, same, progress=progress)
    assert read_state(second) == read_state(whole)


class Looker(Hook):
    """Looks into every fifth step through a hook of the network."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.replayed = 0
        self.number = -1

    def on_start(self, learner: Learner) -> None:
        self.learner = learner
        learner.network.register_forward_hook(lambda *_: self.seen.append(self.number))

    def on_batch(self, _epoch: int, _step: int) -> None:
        self.number += 1
        self.learner.is_looked_into = self.number % 5 == 0

    def on_step(self, _epoch: int, _step: int) -> None:
        self.replayed += self.learner.was_replayed


def test_steps_that_are_looked_into_are_plain() -> None:
    """A debugger sees them, and they change nothing."""
    plain, batches = make_learner()
    records = train(plain, batches)
    watched, same = make_learner()
    allow_replay(watched, same, Tape())
    looker = Looker()
    assert train(watched, same, hooks=[looker]) == records
    assert read_state(watched) == read_state(plain)
    assert set(range(0, 28, 5)) <= set(looker.seen)
    assert 0 < looker.replayed < 28 - len(range(0, 28, 5))


def test_what_drops_at_random_is_found() -> None:
    """Dropout and stochastic depth, wherever they are; a probability of 0 drops nothing."""
    from torchvision.models import efficientnet_b0, resnet18
    from torchvision.ops import StochasticDepth

    assert draws_chance(nn.Sequential(nn.Sequential(nn.Dropout2d(0.1))))
    assert draws_chance(nn.Sequential(StochasticDepth(0.2, "row")))
    assert draws_chance(nn.TransformerEncoderLayer(8, 2, dropout=0.1))
    assert draws_chance(efficientnet_b0())
    assert not draws_chance(nn.Sequential(nn.Dropout(0.0)))
    assert not draws_chance(resnet18())


def test_sums_do_not_depend_on_when_they_are_read() -> None:
    """An epoch that was interrupted reports what a whole one does, to the last bit."""
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.rand((), generator=generator), torch.rand(5, 3, generator=generator)) for _ in range(20)]
    labels = torch.tensor([0, 1, 2, 0, 1])
    whole, other = Tally(CPU), Tally(CPU)
    for loss, outputs in batches:
        whole.add(loss, outputs, labels)
        other.add(loss, outputs, labels)
        sums = other.read()
        other = Tally(CPU)
        other.begin(*sums)
    assert other.read() == whole.read()


@pytest.mark.parametrize(
    ("flags", "half"), [("fpu avx512f avx512_bf16", True), ("amx_bf16 amx_tile", True), ("avx2 avx512f", False)]
)
def test_a_cpu_trains_in_half_precision_only_if_it_can(tmp_path: Path, flags: str, half: bool) -> None:
    """The processor's flags decide, and no timing."""
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    assert has_half_precision(tmp_path / "cpuinfo") is half
    assert not has_half_precision(tmp_path / "missing")


def test_small_images_and_heads_are_trained_in_single_precision() -> None:
    """There half precision costs more than it gains."""
    assert choose_precision(CPU, 0) is None
    assert choose_precision(CPU, LEAST_SIDE - 1) is None


def test_what_is_judged_is_computed_in_single_precision() -> None:
    """Whatever the steps are computed in: objective, temperature and thresholds come from these logits."""
    learner, _ = make_learner()
    expected = learner.judge(iter(INPUTS.split(10)))
    learner.precision = torch.bfloat16
    assert torch.equal(learner.judge(iter(INPUTS.split(10))), expected)
