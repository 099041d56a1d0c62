"""Tests of the time limit: when a training must end so that its model is uploaded in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job.deadline import BYTES_A_SECOND, Deadline, Ending


@given(
    limit=st.integers(60, 432_000), closing=st.floats(0, 100), size=st.integers(0, 600_000_000), now=st.floats(0, 5e5)
)
def test_what_comes_after_the_last_step_fits_in_before_the_limit(
    limit: int, closing: float, size: int, now: float
) -> None:
    """Whenever the deadline is not near, closing and uploading artifact and checkpoint still end before the limit."""
    deadline = Deadline(limit, 1000.0, size, clock=lambda: 1000.0 + now)
    if not deadline.is_near(closing):
        assert now + closing + 5 * size / BYTES_A_SECOND < limit


def test_a_short_limit_is_not_used_up_by_the_start() -> None:
    """The time before the program runs is reckoned as 300 s, but as at most a tenth of the limit."""
    assert Deadline(86_400, 0.0, 0).reserve(0.0) == 300
    assert Deadline(60, 0.0, 0).reserve(0.0) == pytest.approx(6)


def test_without_a_limit_there_is_no_deadline() -> None:
    """A job of which no limit is known trains until its last epoch."""
    assert not Deadline(0, 0.0, 10**12, clock=lambda: 1e9).is_near(1e9)


def test_a_training_ends_when_it_is_asked_to_or_out_of_time() -> None:
    """Either is enough, and the time that closing takes is asked for again at every look."""
    now, closing, asked = [0.0], [0.0], [False]
    ending = Ending(lambda: asked[0], Deadline(100, 0.0, 0, clock=lambda: now[0]), lambda: closing[0])
    assert not ending()
    closing[0] = 95.0
    assert ending()
    assert ending.is_out_of_time()
    closing[0], asked[0] = 0.0, True
    assert ending()
    assert not ending.is_out_of_time()
