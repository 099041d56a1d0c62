"""Which image is in which split, by its path or by what it looks like."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images.layout import Sample, find_samples
from images.reading.labels import Wishes
from images.splits import SHARE, choose_side, cut, perceptual_key, position
from job.settings import read_hyperparameters
from learning.preparation import read_wishes
from PIL import Image

from tests.training.tiny import encode, smooth

BOTH = ("valid", "test")
keys = st.binary(min_size=6, max_size=6)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train/a/1.png", "valid/a/2.png", "test/a/3.png"], ["test a", "train a", "valid a"]),
        (["dogs/Training/a/1.JPG", "dogs/VAL/a/2.jpeg", "dogs/testing/b/3.webp"], ["test b", "train a", "valid a"]),
        (["x/y/train/a/deep/er/1.png", "x/other/a/2.png"], ["train a"]),
        (["a/1.png", "b/2.png"], ["train a", "train b"]),
        (["wrap/a/1.png", "wrap/b/2.png", "README.md"], ["train a", "train b"]),
        (["a/train/x/1.png", "z/train/x/1.png"], ["train x"]),
        (["train/train/1.png", "train/b/2.png"], ["train b", "train train"]),
        (["train/1.png", "1.png", "train/"], []),
        (["__MACOSX/train/a/1.png", "train/a/._1.png", "train/.hidden/1.png", "train/a/Thumbs.db"], []),
        (["train/a/1.gif", "train/a/notes.txt", "train/a/1.png"], ["train a", "train a"]),
        ([], []),
    ],
)
def test_the_layout_rule(names: list[str], expected: list[str]) -> None:
    """Splits and classes are found below wrapping folders, in any case; litter and other files are passed over."""
    assert sorted(f"{sample.split} {sample.label}" for sample in find_samples(names)) == expected


def test_samples_come_in_the_order_of_their_names() -> None:
    """The order of entries in the zip changes nothing."""
    names = [f"train/a/{number}.png" for number in range(9)]
    assert find_samples(reversed(names)) == [Sample(name, "train", "a") for name in names]


@settings(deadline=None)
@given(keys=st.lists(keys, min_size=30, max_size=60, unique=True), added=st.lists(keys, max_size=30))
def test_a_side_never_changes_when_images_are_added(keys: list[bytes], added: list[bytes]) -> None:
    """An image's side depends on its own key alone, so later versions of a dataset keep it."""
    before, warnings = cut(keys, ["a"] * len(keys), BOTH)
    after, _ = cut([*added, *keys], ["b"] * len(added) + ["a"] * len(keys), BOTH)
    if not warnings:
        assert after[len(added) :] == before


@settings(deadline=None)
@given(keys=st.lists(keys, min_size=2, max_size=40), classes=st.integers(1, 4))
def test_equal_keys_fall_together(keys: list[bytes], classes: int) -> None:
    """Images that look alike are never on two sides, unless a class would be lost to train."""
    labels = [str(index % classes) for index in range(2 * len(keys))]
    sides, warnings = cut(keys + keys, labels, BOTH)
    if not any("stay in train" in warning for warning in warnings):
        assert sides[: len(keys)] == sides[len(keys) :]


@settings(deadline=None)
@given(
    keys=st.lists(keys, min_size=6, max_size=40, unique=True), missing=st.sampled_from([BOTH, ("valid",), ("test",)])
)
def test_every_class_stays_in_train_and_every_split_is_filled(keys: list[bytes], missing: tuple[str, ...]) -> None:
    """However small the dataset, nothing is left empty that train could fill, and no split is made that was there."""
    labels = [str(index % 2) for index in range(len(keys))]
    sides, _ = cut(keys, labels, missing)
    assert "train" in sides
    assert set(sides) == {"train", *missing} or sides.count("train") == 2
    assert {label for label, side in zip(labels, sides, strict=True) if side == "train"} == {"0", "1"}


def test_an_image_that_fell_into_test_never_falls_into_valid() -> None:
    """The two held-out shares do not overlap, whichever of them is missing."""
    many = [index.to_bytes(4, "big") for index in range(4000)]
    sides = [choose_side(key, BOTH) for key in many]
    assert all(choose_side(key, ["valid"]) in (side, "train") for key, side in zip(many, sides, strict=True))
    for split in BOTH:
        assert abs(sides.count(split) / len(many) - SHARE) < 0.02


def test_the_cut_is_the_same_for_ever() -> None:
    """The keyed hash is a contract between versions of this program: a change would move images across."""
    assert position(b"whippet") == pytest.approx(0.7561928526764577, abs=1e-12)


def test_copies_have_one_key() -> None:
    """Another format, size or compression of a picture keeps its key nearly always; other pictures have other keys."""
    pictures = [smooth(seed) for seed in range(60)]
    originals = [perceptual_key(picture) for picture in pictures]
    assert len(set(originals)) == len(pictures)
    assert [perceptual_key(reopen(encode(picture, "PNG"))) for picture in pictures] == originals
    copies = [
        [perceptual_key(reopen(encode(picture, "JPEG", quality=80))) for picture in pictures],
        [perceptual_key(reopen(encode(picture, "WEBP", quality=80))) for picture in pictures],
        [perceptual_key(picture.resize((192, 160), Image.Resampling.BICUBIC)) for picture in pictures],
    ]
    for copy in copies:
        assert sum(own == other for own, other in zip(originals, copy, strict=True)) >= 0.85 * len(pictures)


def reopen(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def test_blank_images_are_spread() -> None:
    """Pictures without any structure have keys of their own, or all of them would be on one side."""
    blanks = [Image.new("RGB", (20, 20), (level, level, level)) for level in range(50)]
    assert len({perceptual_key(blank) for blank in blanks}) == 50


def test_an_uneven_cut_is_told() -> None:
    """Where most images look alike, a warning names the share that came out."""
    _, warnings = cut([b"one", *(bytes([number]) for number in range(20))] + [b"one"] * 100, ["a"] * 121, BOTH)
    assert any("since many images look alike" in warning for warning in warnings)


def test_the_recipe_says_how_the_dataset_is_read() -> None:
    """The hyperparameters that the control plane sends become the wishes that pre-flight had; defaults say nothing."""
    given = {
        "class_level": "2",
        "labels": "{label}_#.jpg",
        "group": "{group}_*",
        "ignore": '["masks", "größe"]',
        "name_encoding": "cp932",
    }
    read = read_wishes(read_hyperparameters(given, print))
    assert read == Wishes(2, "cp932", ("masks", "größe"), "{group}_*", "{label}_#.jpg")
    assert read_wishes(read_hyperparameters({"labels": "auto", "name_encoding": "auto"}, print)) == Wishes()
