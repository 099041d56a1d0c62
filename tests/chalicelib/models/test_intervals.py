"""The intervals by which models are judged, against published values and against a search over all hypotheses."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.models.intervals import (
    find_interval,
    find_paired_interval,
    find_paired_lower,
    find_smallest_difference,
    score,
)

Array = npt.NDArray[np.float64]


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_the_interval_holds_the_share_and_stays_within_0_and_1(images: int, share: float) -> None:
    """This includes one image, and none or all of them right."""
    low, high = find_interval(share, images)
    assert 0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1


def test_the_interval_is_wilsons() -> None:
    """The published value for 8 of 10 is 49.0 to 94.3 %."""
    assert find_interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_the_score_is_the_one_that_tango_printed() -> None:
    """Section 6.1, soft contact lenses: 43 pairs both effective, 0 and 1 discordant; 1.709 at a difference of -0.1."""
    assert score(0, 1, 44, -0.1) == pytest.approx(1.709, abs=5e-4)
    assert find_paired_interval(0, 1, 44, 0.9)[0] == pytest.approx(-0.096, abs=5e-4)
    assert find_paired_lower(0, 1, 44, 0.95) == pytest.approx(-0.096, abs=5e-4)


def test_the_interval_is_the_one_that_others_print() -> None:
    """Airway hyper-responsiveness before and after transplantation, (1, 1, 7, 12): -0.517 to -0.026.

    M. W. Fagerland, S. Lydersen, P. Laake, Recommended tests and confidence intervals for paired binomial proportions,
    Statistics in Medicine 33 (2014) 2850-2875.
    """
    assert find_paired_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


def test_at_no_difference_the_score_is_mcnemars() -> None:
    """(b - c) / sqrt(b + c)."""
    assert score(12, 5, 100, 0.0) == pytest.approx(7 / math.sqrt(17))


def maximise_likelihood(only_new: int, only_old: int, images: int, differences: Array) -> Array:
    """Return the shares of `only old` that make the counts likeliest under each hypothesis, by trying them all."""
    rest = images - only_new - only_old
    low, high = np.maximum(0.0, -differences), (1 - differences) / 2
    for _ in range(6):
        shares = np.linspace(low, high, 21)
        chances = ((only_new, shares + differences), (only_old, shares), (rest, 1 - 2 * shares - differences))
        likelihood = sum(count * np.log(np.maximum(chance, 1e-300)) for count, chance in chances)
        best = np.take_along_axis(shares, np.argmax(likelihood, axis=0)[None], axis=0)[0]
        width = (high - low) / 20
        low, high = np.maximum(low, best - width), np.minimum(high, best + width)
    return best


@pytest.mark.parametrize(("only_new", "only_old", "images"), [(1, 7, 21), (0, 1, 44), (9, 3, 60), (20, 24, 300)])
@pytest.mark.parametrize("level", [0.6, 0.95])
def test_the_bounds_are_where_the_score_test_begins_to_reject(
    only_new: int, only_old: int, images: int, level: float
) -> None:
    """Every difference is tried, with the likeliest shares found by search, and compared with the normal quantile."""
    z = {0.6: 0.841621, 0.95: 1.959964}[level]
    differences = np.arange(-499, 500) / 500
    shares = maximise_likelihood(only_new, only_old, images, differences)
    variance = images * (2 * shares + differences - differences**2)
    is_held = abs(only_new - only_old - images * differences) <= z * np.sqrt(np.maximum(variance, 1e-12))
    held = differences[is_held]
    assert find_paired_interval(only_new, only_old, images, level) == pytest.approx((held[0], held[-1]), abs=2.1e-3)


@given(st.data())
def test_the_paired_interval_holds_the_difference_and_turns_with_the_models(data: st.DataObject) -> None:
    """It lies within -1 and 1, for any counts; swapping the models turns its sign; a surer one is wider."""
    images = data.draw(st.integers(1, 2000))
    only_new = data.draw(st.integers(0, images))
    only_old = data.draw(st.integers(0, images - only_new))
    low, high = find_paired_interval(only_new, only_old, images)
    assert -1 <= low <= (only_new - only_old) / images + 1e-9 <= high + 2e-9 <= 1 + 3e-9
    assert find_paired_interval(only_old, only_new, images) == pytest.approx((-high, -low), abs=1e-9)
    assert low <= find_paired_lower(only_new, only_old, images, 0.8) + 1e-9


def test_no_image_shows_nothing() -> None:
    """Every difference is possible then."""
    assert find_paired_interval(0, 0, 0) == (-1.0, 1.0)
    assert find_smallest_difference(0, 0) == 1.0


def test_more_images_show_smaller_differences() -> None:
    """300 images of which 12 % are discordant show 5.6 points; four times as many show half of that."""
    assert find_smallest_difference(36, 300) == pytest.approx(0.056, abs=5e-4)
    assert find_smallest_difference(144, 1200) == pytest.approx(0.028, abs=5e-4)
