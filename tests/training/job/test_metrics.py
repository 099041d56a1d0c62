"""Tests of the lines from which SageMaker reads metrics, and of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job.metrics import GAP_SECONDS, MetricsFile, ObjectiveLines, describe_epoch


class Time:
    """A clock that only a sleep and a test move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def tell(pauses: Sequence[float], left: float, capsys: pytest.CaptureFixture[str]) -> tuple[Time, list[str]]:
    """Log a line after each pause, with so much left until the final one, and then that. Return the clock and all."""
    time = Time()
    lines = ObjectiveLines(clock=time.read, sleep=time.sleep)
    for number, pause in enumerate(pauses):
        time.now += pause
        lines.add(f"epoch={number}", f"brief={number}", left)
    lines.add_final("best")
    return time, capsys.readouterr().out.splitlines()


@given(pauses=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), max_size=20))
def test_two_lines_are_never_of_the_same_second(pauses: list[tuple[float, float]]) -> None:
    """However short the epochs are, lines are at least 1.1 s apart, and the final one waits for no more than that."""
    time, times = Time(), []
    lines = ObjectiveLines(clock=time.read, sleep=time.sleep)
    for pause, left in pauses:
        time.now += pause
        lines.add("epoch", "brief", left)
        times.append(lines.last)
    lines.add_final("best")
    told = sorted({*times, lines.last})
    assert all(later - earlier >= GAP_SECONDS - 1e-9 for earlier, later in pairwise(told))
    assert sum(time.slept) <= GAP_SECONDS + 1e-9


def test_an_epoch_due_too_soon_is_left_out_and_the_final_line_never(capsys: pytest.CaptureFixture[str]) -> None:
    """Of epochs at 0, 0.5, 1.2 and 1.3 s the first and the third are logged; the final line waits for the rest."""
    time, told = tell([0.0, 0.5, 0.7, 0.1], 5.0, capsys)
    assert told == ["epoch=0", "epoch=2", "best"]
    assert time.slept == [pytest.approx(1.0)]


def test_a_training_that_is_about_to_end_waits_for_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the final line comes within the gap, an epoch is logged without the objective: nothing is then close."""
    time, told = tell([0.0, 0.1, 0.1], 0.2, capsys)
    assert told == ["brief=0", "best"]
    assert time.slept == []


def test_a_final_line_that_is_late_enough_does_not_wait(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is waited for where no line came before."""
    assert tell([], 0.0, capsys)[0].slept == []


def test_the_metrics_file_keeps_what_is_resumed(tmp_path: Path) -> None:
    """A resumed job keeps the epochs it resumes after, and drops later ones and a line that was cut off."""
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.begin({"threads": 1}, 0)
    for epoch in (1, 2, 3):
        file.add({"epoch": epoch})
    with file.path.open("a") as opened:
        opened.write('{"epoch": 4, "va')
    file.begin({"threads": 2}, 2)
    assert file.read() == [{"start": {"threads": 2}}, {"epoch": 1}, {"epoch": 2}]


def test_numbers_of_the_log_are_plain() -> None:
    """Numbers have no exponent and no separator that a metric's regex would miss; counts are whole."""
    values = {"loss": 1e-9, "accuracy": 1.0}
    record = {"epoch": 1, "train": values, "valid": values, "seconds": 1, "images_per_second": 2}
    line = describe_epoch(record, {"train": {"images": 48, "classes": 3}, "valid": {"images": 6}})
    assert line == (
        "epoch=1 train:loss=0.000000 train:accuracy=1.000000 train:images=48 train:classes=3 valid:loss=0.000000 "
        "valid:accuracy=1.000000 valid:images=6 seconds=1.00 images_per_second=2.0"
    )


def test_a_line_without_the_objective_still_counts_images() -> None:
    """What the control plane needs of the splits is in every line."""
    values = {"loss": 0.5}
    record = {"epoch": 2, "train": values, "valid": values, "seconds": 1, "images_per_second": 2}
    counts = {"train": {"images": 48}, "valid": {"images": 6}}
    line = describe_epoch(record, counts, judged=False)
    assert line == "epoch=2 train:loss=0.500000 train:images=48 valid:images=6 seconds=1.00 images_per_second=2.0"
