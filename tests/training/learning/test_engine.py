"""Tests of the loops, the metrics and the settings, without a job around them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from job.settings import Hyperparameters, TrainingError, read_given, read_hyperparameters, read_job, unwrap
from judging.evaluate import confusion, describe_test, macro, measure, standard_error
from learning.checkpoints import Checkpoint, fingerprint
from learning.engine import Hook, Learner, Progress, Stopped, Totals, fit, restore_best
from sklearn import metrics as reference
from torch import nn

CPU = torch.device("cpu")


class Points:
    """Batches of points on a line, the same in every epoch."""

    steps = 3

    def of_epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(first, self.steps):
            yield torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1])


def learner(dropout: float = 0.0) -> Learner:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(1, 8), nn.Dropout(dropout), nn.Linear(8, 2))
    return Learner(network, rate=0.1, weight_decay=0.01, steps=30, device=CPU)


def train(own: Learner, scores: list[float], progress: Progress | None = None, **options: Any) -> Progress:
    """Train with given validation scores, one per epoch."""
    defaults = {"patience": 0, "save": lambda _: None, "report": lambda _: None}
    known = progress or Progress()
    validate = lambda: {"score": scores[known.epoch]}  # noqa: E731
    return fit(
        own,
        Points(),
        validate,
        **{"epochs": len(scores), "objective": "score", "seed": 0, "progress": known, **defaults, **options},
    )


def weights(own: Learner) -> list[float]:
    return torch.cat([value.flatten() for value in own.network.state_dict().values()]).tolist()


def test_the_best_epoch_is_kept() -> None:
    """After the last epoch the best epoch's weights can be restored; of equal epochs, the first is kept."""
    own, seen = learner(), []
    progress = train(own, [0.1, 0.9, 0.9, 0.5], report=lambda _: seen.append(weights(own)))
    assert progress.best_epoch == 2
    restore_best(own.network, progress)
    assert weights(own) == seen[1]


def test_patience_counts_epochs_without_improvement() -> None:
    """Patience 2 allows two epochs without improvement; 0 allows any number."""
    scores = [0.5, 0.6, 0.6, 0.6, 0.6, 0.9]
    assert train(learner(), scores, patience=2).epoch == 4
    assert train(learner(), scores).best_epoch == 6


@pytest.mark.parametrize("stop_at", range(1, 12))
def test_a_training_stopped_after_any_step_resumes_to_the_same_weights(tmp_path: Path, stop_at: int) -> None:
    """This holds within an epoch too, and with dropout, whose draws do not depend on where a training resumed."""
    scores = [0.1, 0.9, 0.2, 0.3]
    whole = learner(dropout=0.5)
    expected = train(whole, scores)
    checkpoint, first, steps = Checkpoint(tmp_path, "mark"), learner(dropout=0.5), iter(range(1, 99))
    with pytest.raises(Stopped):
        train(
            first, scores, save=lambda known: checkpoint.save(first, known), stop_asked=lambda: next(steps) == stop_at
        )
    second = learner(dropout=0.5)
    resumed = train(second, scores, checkpoint.resume(second, print))
    assert weights(second) == weights(whole)
    assert (resumed.best_epoch, resumed.best) == (expected.best_epoch, expected.best)
    restore_best(second.network, resumed)
    restore_best(whole.network, expected)
    assert weights(second) == weights(whole)


def test_a_checkpoint_of_another_training_is_not_taken(tmp_path: Path) -> None:
    """The fingerprint of what a training depends on must agree."""
    Checkpoint(tmp_path, fingerprint({"seed": 0})).save(learner(), Progress(epoch=3))
    lines: list[str] = []
    assert Checkpoint(tmp_path, fingerprint({"seed": 1})).resume(learner(), lines.append) == Progress()
    assert "another training" in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


class Recorder(Hook):
    """Record every call."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_start(self, learner: Learner) -> None:
        self.seen.append(f"start {type(learner.criterion).__name__}")

    def on_phase(self, phase: str) -> None:
        self.seen.append(phase)

    def on_batch(self, epoch: int, step: int) -> None:
        self.seen.append(f"batch {epoch}.{step}")

    def on_step(self, epoch: int, step: int) -> None:
        self.seen.append(f"step {epoch}.{step}")

    def on_epoch(self, record: dict[str, Any]) -> None:
        self.seen.append(f"epoch {record['epoch']}")

    def on_end(self) -> None:
        self.seen.append("end")


def test_hooks_see_the_training_in_order() -> None:
    """Debugging and profiling attach here: start, phases, batches, steps, epochs, end."""
    recorder = Recorder()
    train(learner(), [0.5], hooks=[recorder, Hook()])
    steps = [f"{what} 1.{step}" for step in range(3) for what in ("batch", "step")]
    assert recorder.seen == ["start CrossEntropyLoss", "train", *steps, "valid", "epoch 1", "keep", "end"]


def test_a_hook_may_end_the_training() -> None:
    """A rule's Stopped is passed on, and every hook is called at the end."""

    class Rule(Recorder):
        def on_epoch(self, record: dict[str, Any]) -> None:
            raise Stopped

    rule = Rule()
    with pytest.raises(Stopped):
        train(learner(), [0.5, 0.6], hooks=[rule])
    assert rule.seen[-1] == "end"


def test_a_diverged_epoch_reports_a_number() -> None:
    """A loss that is not a number becomes a large number, which JSON and the metric regexes can carry."""
    assert Totals(loss=float("nan"), images=2).means()["loss"] == Totals(loss=float("inf"), images=2).means()["loss"]
    logits = torch.tensor([[float("nan"), 1.0], [0.0, float("inf")]])
    values = measure(logits, torch.tensor([0, 1]))
    json.dumps([values, describe_test(logits, torch.tensor([0, 1]), "ab", 1.0)], allow_nan=False)


answers = st.lists(st.tuples(st.integers(0, 3), st.lists(st.floats(-9, 9), min_size=4, max_size=4)), min_size=2)


@settings(deadline=None, max_examples=50)
@given(answers=answers)
def test_measures_agree_with_scikit_learn(answers: list[tuple[int, list[float]]]) -> None:
    """They equal scikit-learn's; a class without images counts in no mean, whatever is predicted."""
    labels, logits = torch.tensor([label for label, _ in answers]), torch.tensor([row for _, row in answers])
    said, every = logits.argmax(1), [0, 1, 2, 3]
    counts = confusion(logits, labels)
    assert counts.tolist() == reference.confusion_matrix(labels, said, labels=every).tolist()
    values = measure(logits, labels)
    likelihood = reference.log_loss(labels, logits.double().softmax(1).numpy(), labels=every)
    assert values["loss"] == pytest.approx(likelihood, abs=1e-5)
    assert values["accuracy"] == pytest.approx(reference.accuracy_score(labels, said))
    expected = reference.precision_recall_fscore_support(
        labels, said, labels=labels.unique(), average="macro", zero_division=0
    )
    for name, value in zip(("precision", "recall", "f1"), expected[:3], strict=True):
        assert macro(counts, name) == pytest.approx(value)


@pytest.mark.parametrize("objective", ["score", "accuracy", "macro_f1"])
def test_the_standard_error_shrinks_with_the_root_of_the_images(objective: str) -> None:
    """Four times the images halve it; for one image it is 0."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1600, 2, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    few, many = standard_error(logits[:400], labels[:400], objective), standard_error(logits, labels, objective)
    assert many == pytest.approx(few / 2, rel=0.25)
    assert standard_error(logits[:1], labels[:1], objective) == 0.0


@pytest.mark.parametrize("text", ["16", '"16"', '"\\"16\\""', "'16'", 16, " 16 ", "16.0"])
def test_numbers_are_read_through_all_quotes(text: Any) -> None:
    """SageMaker, its SDK and its toolkit each quote values differently."""
    assert read_hyperparameters({"batch_size": text}, print).batch_size == 16


@given(st.text())
def test_unwrapping_ends(text: str) -> None:
    """Any text becomes a plain value or stays as it is."""
    unwrap(text)


def test_defaults_serve() -> None:
    """A job without hyperparameters trains; SageMaker's own ones cause no log line."""
    lines: list[str] = []
    assert read_hyperparameters({"sagemaker_program": '"train.py"'}, lines.append) == Hyperparameters()
    assert lines == []
    assert read_given({}) == {}


@pytest.mark.parametrize(
    "given",
    [{"epochs": "0"}, {"epochs": "1.5"}, {"learning_rate": "nan"}, {"profile": "maybe"}, {"fine_tune": "most"}],
)
def test_values_that_no_training_can_use_are_refused(given: dict[str, str]) -> None:
    """The message names the hyperparameter and its value."""
    (name, _value), *_ = given.items()
    with pytest.raises(TrainingError, match=f"hyperparameter {name} is"):
        read_hyperparameters(given, print)


def test_places_are_below_the_base_folder() -> None:
    """The folders default to the contract's, and the job has its own folder among the checkpoints."""
    job = read_job({"SAGEMAKER_BASE_DIR": "/b", "TRAINING_JOB_NAME": "j", "SM_NUM_CPUS": "3"}, Path("/code"))
    assert (job.threads, job.gpus, job.places.weights) == (3, 0, None)
    assert str(job.places.checkpoints) == "/b/checkpoints/j"
    assert str(job.places.dataset) == "/b/input/data/dataset"
    with pytest.raises(TrainingError, match="no JSON"):
        read_given({"SM_HPS": "{"})


def test_what_jobs_share_is_named_by_the_machine_and_can_be_refused() -> None:
    """Without the variables, and with --no-cache, a job keeps nothing and takes nothing."""
    environ = {"FEATURE_CACHE": "/f", "PIXEL_CACHE": "/p"}
    shared = read_job(environ, Path("/code"))
    assert (shared.feature_cache, shared.pixel_cache) == (Path("/f"), Path("/p"))
    for job in (read_job(environ, Path("/code"), share=False), read_job({}, Path("/code"))):
        assert (job.feature_cache, job.pixel_cache) == (None, None)


def test_rates_in_tensors_follow_the_schedule() -> None:
    """A GPU's steps read them where they lie: each group of weights has its own, which is filled in place."""
    plain, other = learner(), learner()
    for group in other.optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]))
    held = [group["lr"] for group in other.optimizer.param_groups]
    assert len({id(rate) for rate in held}) == len(held) == 2
    for _ in range(5):
        for own in (plain, other):
            own.optimizer.step()
            own.schedule.step()
        rates = [group["lr"] for group in plain.optimizer.param_groups]
        assert [float(rate) for rate in held] == pytest.approx(rates)


def spoil(own: Learner, value: float, after: int = 0) -> None:
    """Let the learner's weights be lost after so many steps."""
    learn, steps = own.learn, iter(range(99))

    def learn_or_lose(inputs: torch.Tensor, labels: torch.Tensor) -> None:
        if next(steps) >= after:
            own.network[2].bias.data.copy_(torch.tensor([value, -value]))
        learn(inputs, labels)

    own.learn = learn_or_lose


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_a_diverged_training_ends_with_its_best_epoch(value: float) -> None:
    """No later epoch can be better, so none is run; what was best before is kept."""
    own, seen, progress = learner(), [], Progress()
    spoil(own, value, after=Points.steps)
    with pytest.raises(Stopped, match="it diverged"):
        train(own, [0.5, 0.1, 0.1, 0.1], progress, report=seen.append)
    assert (len(seen), progress.best_epoch) == (2, 1)


def test_a_high_loss_that_validation_does_not_confirm_ends_nothing() -> None:
    """One batch without a number may be the GPU's half precision, which skips that step."""
    own, progress = learner(), Progress()
    spoil(own, float("nan"))
    validate = lambda: {"score": 0.5, "loss": 0.7}  # noqa: E731
    silent = {"save": lambda _: None, "report": lambda _: None}
    found = fit(own, Points(), validate, epochs=3, patience=0, objective="score", seed=0, progress=progress, **silent)
    assert found.epoch == 3
