"""Tests of counting: which images two models are compared on, how they answered, and what must at least be reached."""

from __future__ import annotations

import pytest
from comparing.history import Image, Seen, find_lookalikes
from comparing.tables import count_changed, sort_out, tabulate
from judging.intervals import find_interval


def image(name: str, label: str = "a", key: str = "") -> Image:
    return Image(f"{name}.png", label, name, key, "test")


def test_each_image_is_left_out_for_one_reason() -> None:
    """What was seen comes before what looks like it, and that before its class."""
    images = [image("1"), image("2", key="k"), image("3", "c"), image("4", "b"), image("5", "c", key="k")]
    kept, left_out = sort_out(images, Seen({"1"}, {"k"}), {"a", "b"}, 10)
    assert kept == [3]
    assert left_out == {"seen": 1, "near_duplicates": 2, "other_classes": 1}


def test_of_very_many_images_an_even_sample_is_taken() -> None:
    """As many as allowed, each once, from first to last; the others are counted."""
    kept, left_out = sort_out([image(str(number)) for number in range(25)], Seen(), {"a"}, 10)
    assert kept == [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]
    assert left_out["beyond_limit"] == 15


def test_answers_are_counted_in_pairs() -> None:
    """An answer that is not a shared class is wrong, unless it is the label."""
    labels, new, live = list("aabbb"), list("aabca"), list("abbbz")
    assert tabulate(labels, new, live) == {"both": 2, "only_new": 1, "only_live": 1, "neither": 1}


def test_a_label_counts_as_changed_by_the_image_not_its_name() -> None:
    """Images of one version alone are not compared; of copies under several labels all labels count."""
    new = [image("1", "a"), image("2", "b"), image("3", "a"), image("4", "a"), image("4", "b")]
    old = [image("1", "a"), image("2", "a"), image("5", "a"), image("4", "b"), image("4", "a")]
    assert count_changed(new, old) == {"changed": 1, "compared": 3}


def test_a_key_that_several_classes_share_tells_no_copies() -> None:
    """Scans and digits look alike in a tiny thumbnail without being copies."""
    assert find_lookalikes([image("1", "a", "k"), image("2", "b", "k"), image("3", "a", "m")]) == {"k"}


@pytest.mark.parametrize(
    ("correct", "images", "bound"), [(0, 10, 0.0), (10, 10, 0.7225), (50, 100, 0.4038), (1, 100, 0.0018), (0, 0, 0.0)]
)
def test_the_lower_bound_is_wilsons(correct: int, images: int, bound: float) -> None:
    """By Newcombe's tables (1998), to four digits."""
    assert find_interval(correct / max(images, 1), images)[0] == pytest.approx(bound, abs=1e-4)
