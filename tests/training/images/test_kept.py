"""Decoded images have the same bits, whoever decoded them: this process, others, or another job of the machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from caching.store import Store
from images.assembly import Dataset
from images.data import KeptRows, read_dataset
from images.decoding.kept import Kept
from images.early import PLAIN, begin, decode_early, look_through
from images.pixels import choose_resize, open_rgb, to_square
from images.reading.labels import Wishes
from job.settings import Hyperparameters
from learning.weights import choose_preprocessing
from torchvision import models

from tests.training.profiled import make_job
from tests.training.tiny import encode, make_zip, shapes_zip, smooth

SIZE = 32
COUNTS = {"train": 40, "valid": 6, "test": 6}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "dataset.zip"
    path.write_bytes(shapes_zip(COUNTS, extra={"train/bar/zz.png": b"no image"}))
    return path


def read(archive: Path, **options: Any) -> Dataset:
    return read_dataset(archive, SIZE, **{"threads": 1, "scratch": archive.parent, **options})


def describe(dataset: Dataset) -> list[Any]:
    """Return everything that a training sees of a dataset, as comparable values."""
    splits = [dataset.train, dataset.valid, dataset.test]
    pixels = [split.images(torch.arange(len(split))).tolist() for split in splits]
    told = [(split.labels.tolist(), split.hashes, split.names) for split in splits]
    return [pixels, told, dataset.warnings, dataset.skipped, dataset.photographs]


def test_processes_decode_what_one_would(archive: Path) -> None:
    """Pixels, hashes, splits and what is wrong with a file."""
    assert describe(read(archive, threads=3)) == describe(read(archive))


def test_kept_pixels_are_the_same_bits(archive: Path, tmp_path: Path) -> None:
    """When they are made, when they are found, and without a folder at all."""
    plain, folder = describe(read(archive)), tmp_path / "pixels"
    assert describe(read(archive, shared=folder, threads=2)) == plain
    files = sorted(path.name for path in folder.glob("*.npy"))
    assert describe(read(archive, shared=folder)) == plain
    assert sorted(path.name for path in folder.glob("*.npy")) == files


def test_pixels_that_nobody_looks_at_are_not_read(archive: Path, tmp_path: Path) -> None:
    """A job with kept features needs only what was told of the images."""
    read(archive, shared=tmp_path / "pixels")
    dataset = read(archive, shared=tmp_path / "pixels")
    assert isinstance(dataset.train.cache, KeptRows)
    assert dataset.train.cache.kept.maps == {}
    dataset.valid.images(torch.tensor([0]))
    assert len(dataset.train.cache.kept.maps) == 1


@pytest.mark.parametrize("harm", ["flip", "remove", "cut"])
def test_damage_is_noticed_and_repaired(archive: Path, tmp_path: Path, harm: str) -> None:
    """A flipped byte, a file that another job evicted, or one that was cut: the images are decoded again."""
    plain, folder = describe(read(archive)), tmp_path / "pixels"
    read(archive, shared=folder)
    dataset = read(archive, shared=folder)
    for path in folder.glob("*.npy"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        if harm == "remove":
            path.unlink()
        else:
            path.write_bytes(data if harm == "flip" else data[:100])
    assert describe(dataset) == plain
    assert describe(read(archive, shared=folder)) == plain


def test_what_does_not_fit_is_not_kept(archive: Path, tmp_path: Path) -> None:
    """A store that could hold only a part would forget one part for another."""
    opened = look_through(archive, Wishes())
    order = opened.order(SIZE)
    assert Kept(order, opened.source, Store(tmp_path / "s")).fits()
    assert not Kept(order, opened.source, Store(tmp_path / "s", limit=len(order.names) * 3 * SIZE**2)).fits()
    (tmp_path / "file").write_text("in the way")
    assert describe(read(archive, shared=tmp_path / "file")) == describe(read(archive))


def join_in(archive: str, folder: str, counted: str) -> None:
    """Read the dataset in a process of its own, and count the files that it unpacked."""
    opened = look_through(Path(archive), Wishes())
    decoding = begin(opened, opened.order(SIZE), workers=1, scratch=Path(folder), shared=Path(folder))
    decoding.finish()
    with Path(counted).open("a") as file:
        file.write(f"{len(list(Path(folder).glob('*.npy')))}\n")


def test_four_jobs_at_once_decode_each_image_once(tmp_path: Path) -> None:
    """Each of them gets all images; what they keep is there once."""
    path, folder = tmp_path / "dataset.zip", tmp_path / "pixels"
    path.write_bytes(shapes_zip({"train": 100, "valid": 10, "test": 10}))
    arguments = (str(path), str(folder), str(tmp_path / "counted"))
    jobs = [multiprocessing.get_context("fork").Process(target=join_in, args=arguments) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * 4
    assert len(list(folder.glob("*.npy"))) == 2 * 12  # 360 images in pieces of 32, each with two files


def photos() -> bytes:
    splits = {split: range(4 * number, 4 * number + 4) for number, split in enumerate(("train", "valid", "test"))}
    files = {
        f"{split}/{'ab'[seed % 2]}/{seed}.jpg": encode(smooth(seed, 300, 200), "JPEG")
        for split, seeds in splits.items()
        for seed in seeds
    }
    return make_zip(files)


@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"streams": lambda _: True}])
def test_only_what_trains_is_decoded_at_a_reduced_scale(tmp_path: Path, options: dict[str, Any]) -> None:
    """Images that are judged, and all images that a split is cut from, have the pixels of the endpoint's decoder."""
    path = tmp_path / "dataset.zip"
    path.write_bytes(photos())
    dataset = read(path, only_train=True, **options)
    source = look_through(path, Wishes()).source
    for split in (dataset.train, dataset.valid, dataset.test):
        exact = np.stack([to_square(open_rgb(source.read(name)), SIZE) for name in split.names])
        judged = split.images(torch.arange(len(split))).numpy()
        taught = split.lessons(torch.arange(len(split))).numpy()
        assert (taught != exact).any() == (split is dataset.train or "streams" in options)
        assert np.abs(taught.astype(int) - exact).max() < 24
        if split is not dataset.train or "streams" in options:
            assert (judged == exact).all()


def test_nothing_is_reduced_where_a_split_is_cut(tmp_path: Path) -> None:
    """Nor where something besides batches is made of the train split's images."""
    path = tmp_path / "dataset.zip"
    path.write_bytes(photos())
    opened = look_through(path, Wishes())
    assert set(opened.order(SIZE).glances) == {0}
    assert set(opened.order(SIZE, only_train=True).glances) == {0, SIZE}
    path.write_bytes(shapes_zip({"train": 4}))
    assert set(look_through(path, Wishes()).order(SIZE, only_train=True).glances) == {0}


@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"streams": lambda _: True}])
def test_a_split_of_which_no_image_can_be_read_is_cut(tmp_path: Path, options: dict[str, Any]) -> None:
    """By what images look like, as if it were not there."""
    path = tmp_path / "dataset.zip"
    path.write_bytes(shapes_zip({"train": 40, "test": 4}, extra={"valid/bar/0.png": b"no image"}))
    found = read(path, only_train=True, **options)
    path.write_bytes(shapes_zip({"train": 40, "test": 4}))
    expected = read(path)
    assert [split.names for split in (found.train, found.valid)] == [
        split.names for split in (expected.train, expected.valid)
    ]
    assert len(found.valid) > 5


@pytest.fixture
def decode_for(tmp_path: Path) -> Callable[..., Any]:
    job = make_job(tmp_path, shapes_zip(COUNTS))
    return lambda **chosen: decode_early(job, Hyperparameters(**{"image_size": SIZE, **chosen}), print)


def test_what_was_begun_early_is_taken(decode_for: Callable[..., Any], tmp_path: Path) -> None:
    """If it is what the training needs; else it is dismissed, and the images are decoded as they should be."""
    path, plain = tmp_path / "input/dataset.zip", None
    for chosen in ({}, {"image_size": 48}):
        early = decode_for(**chosen)
        assert early is not None
        found = describe(read(path, early=early))
        plain = plain or describe(read(path))
        assert found == plain


def test_what_cannot_be_known_early_is_left(decode_for: Callable[..., Any], tmp_path: Path) -> None:
    """A network with a preprocessing of its own, no cache, or a zip that is none: it is not decoded early."""
    assert decode_for(architecture="efficientnet_b0") is None
    assert decode_for(cache="none") is None
    (tmp_path / "input/dataset.zip").write_bytes(b"no zip")
    assert decode_for() is None


def test_the_plain_preprocessing_is_that_of_these_networks() -> None:
    """torchvision's table says the same of every network whose images are decoded before it is imported."""
    plain = [name for name in models.list_models(module=models) if name.startswith(PLAIN)]
    assert len(plain) >= 20
    for name in plain:
        known = choose_preprocessing(name, 224, pretrained=True)
        assert (known.resize_size, known.interpolation) == (choose_resize(224), "bilinear"), name
