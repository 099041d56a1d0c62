"""The cut of a missing split: every class that can be judged is, and images of train stay there in later versions."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images.data import read_dataset
from images.reading.labels import Wishes
from images.splits import plan_cut, position

from tests.training.tiny import make_zip, png, smooth

BOTH = ("valid", "test")
MISSING = st.sampled_from([BOTH, ("valid",), ("test",)])
KEYS = st.integers(0, 2**48 - 1).map(lambda number: number.to_bytes(6, "big"))


def cut_class(keys: list[bytes], missing: tuple[str, ...] = BOTH) -> dict[bytes, str]:
    """Cut a class beside another one, which is the same in every version and shares no key with it."""
    others = [b"other" + bytes([index]) for index in range(40)]
    planned = plan_cut([*keys, *others], ["a"] * len(keys) + ["b"] * 40, missing)
    return dict(zip(keys, planned.sides, strict=False))


def is_kept_whole(keys: list[bytes]) -> bool:
    return set(cut_class(keys).values()) == {"train"}


@settings(deadline=None, max_examples=300)
@given(st.lists(KEYS, min_size=3, max_size=30, unique=True), MISSING)
def test_a_class_of_three_groups_is_judged(keys: list[bytes], missing: tuple[str, ...]) -> None:
    """It has images in train and in each split that was cut, unless all its hashes lie below the thresholds."""
    sides = set(cut_class(keys, missing).values())
    assert sides == {"train", *missing} or all(position(key) < 0.3 for key in keys)


@settings(deadline=None, max_examples=300)
@given(st.lists(KEYS, min_size=4, max_size=40, unique=True), st.integers(1, 20), MISSING)
def test_added_images_send_none_of_train_to_test(keys: list[bytes], added: int, missing: tuple[str, ...]) -> None:
    """At most two groups come back to train; none of train goes to valid or test, but from a class kept whole."""
    old, new = keys[: max(3, len(keys) - added)], keys
    before, after = cut_class(old, missing), cut_class(new, missing)
    moved = [(before[key], after[key]) for key in old if before[key] != after[key]]
    assert sum(to == "train" for _, to in moved) <= 2
    if not is_kept_whole(old):
        assert not [pair for pair in moved if pair[0] == "train"]


def test_what_a_class_needed_is_listed_for_the_manifest() -> None:
    """Classes kept whole, those with three groups, groups that were moved, and classes that cannot be judged."""
    high = sorted((bytes([number]) * 6 for number in range(200)), key=position)[-9:]
    keys = [*high[:4], *high[4:7], high[7], high[8]]
    planned = plan_cut(keys, ["many"] * 4 + ["three"] * 3 + ["two"] * 2, BOTH)
    described = planned.describe()
    assert described["moved"] == {
        "many": {high[0].hex(): "test", high[1].hex(): "valid"},
        "three": {high[4].hex(): "test", high[5].hex(): "valid"},
    }
    assert described["three_groups"] == ["three"]
    assert described["lacking"] == {"valid": ["two"], "test": ["two"]}
    told = " ".join(planned.warnings)
    assert "1 class has no image in valid" in told
    assert "1 class has just 3 different images" in told


def test_groups_of_the_recipe_stay_together(tmp_path: Path) -> None:
    """Images whose names share the recipe's part are on one side, however different they look."""
    names = [f"{c}/p{patient:02d}_{scan}.png" for c in "ab" for patient in range(12) for scan in range(4)]
    path = tmp_path / "scans.zip"
    path.write_bytes(make_zip({name: png(smooth(seed)) for seed, name in enumerate(names)}))
    data = read_dataset(path, 16, threads=2, scratch=tmp_path, wishes=Wishes(group="{group}_#.png"))
    patients = [
        {name.rpartition("/")[2].partition("_")[0] for name in split.names}
        for split in (data.train, data.valid, data.test)
    ]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 12


def test_groups_that_the_datasets_own_splits_divide_are_told(tmp_path: Path) -> None:
    """What is given is not changed, and its fault is told; so is a pattern that fits no name."""
    names = [f"{split}/{c}/p1_{turn}.png" for split in ("train", "valid", "test") for c in "ab" for turn in range(3)]
    path = tmp_path / "scans.zip"
    path.write_bytes(make_zip({name: png(smooth(seed)) for seed, name in enumerate(names)}))
    divided = read_dataset(path, 16, threads=2, scratch=tmp_path, wishes=Wishes(group="{group}_#.png"))
    unfit = read_dataset(path, 16, threads=2, scratch=tmp_path, wishes=Wishes(group="{group}-#.png"))
    assert "1 group is in several splits: p1" in " ".join(divided.warnings)
    assert "fits no file name" in " ".join(unfit.warnings)


@pytest.mark.parametrize("count", [1, 2])
def test_classes_that_cannot_be_judged_are_told(tmp_path: Path, count: int) -> None:
    """A class with one or two images is trained on, and a warning names it."""
    names = [f"{c}/{turn}.png" for c, images in (("a", 20), ("b", 20), ("rare", count)) for turn in range(images)]
    path = tmp_path / "rare.zip"
    path.write_bytes(make_zip({name: png(smooth(seed)) for seed, name in enumerate(names)}))
    data = read_dataset(path, 16, threads=2, scratch=tmp_path)
    assert any("cannot be judged there" in warning and "'rare'" in warning for warning in data.warnings)
