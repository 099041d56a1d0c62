"""Images straight from the zip: what is decoded, skipped, refused, and in which order it is drawn."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from images import early
from images.augment import DRAWS, augment, choose_flip
from images.data import Batches, Dataset, hold_split, read_dataset
from images.decoding import rows as data
from images.decoding.decoder import flatten, turn_upright
from images.pixels import MEAN, STD, UnreadableImage, choose_resize, crop_centre, normalise, open_rgb, to_square
from job.settings import TrainingError
from PIL import Image

from tests.support.image_kinds import announce_png, draw
from tests.training.tiny import encode, make_zip, png, shape, shapes_zip, smooth

CPU = torch.device("cpu")


def read(tmp_path: Path, content: bytes, size: int = 16) -> Dataset:
    path = tmp_path / "dataset.zip"
    path.write_bytes(content)
    return read_dataset(path, size, threads=2, scratch=tmp_path)


def test_every_image_reaches_its_split_and_class(tmp_path: Path) -> None:
    """Pixels, class numbers and hashes of the three splits, classes in the order of their names."""
    read_back = read(tmp_path, shapes_zip({"train": 4, "valid": 2, "test": 1}))
    assert read_back.classes == ["bar", "disc", "ring"]
    assert [len(split) for split in (read_back.train, read_back.valid, read_back.test)] == [12, 6, 3]
    assert read_back.valid.labels.tolist() == [0, 0, 1, 1, 2, 2]
    first = np.asarray(shape("bar", np.random.default_rng(0)))
    pixels = read_back.train.images(torch.tensor([0]))
    assert pixels.dtype == torch.uint8
    assert (pixels[0].numpy() == first).all()
    assert (read_back.warnings, read_back.photographs) == ([], False)


def test_a_cache_beyond_memory_lies_in_a_file_without_a_name(tmp_path: Path) -> None:
    """The cache of a large dataset is paged by the system, and leaves nothing behind."""
    in_memory = early.make_cache((2, 3, 4, 4), tmp_path)
    in_memory[:] = 7
    paged = early.make_cache((early.MEMORY_LIMIT // 48 + 1, 3, 4, 4), tmp_path / "scratch")
    paged[-1] = 7
    assert (paged[-1] == in_memory[-1]).all()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_broken_images_are_skipped_and_counted(tmp_path: Path) -> None:
    """A few images that cannot be read cost a warning that names the first."""
    extra = {"train/bar/zz.png": b"no image", "test/disc/zz.jpg": encode(Image.new("RGB", (40, 40)), "JPEG")[:200]}
    read_back = read(tmp_path, shapes_zip({"train": 10, "valid": 2, "test": 2}, extra=extra))
    assert [len(split) for split in (read_back.train, read_back.valid, read_back.test)] == [30, 6, 6]
    assert "2 of 44 images cannot be read, the first: test/disc/zz.jpg" in read_back.warnings[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no zip at all", "not a readable zip"),
        (shapes_zip({"train": 2, "valid": 2, "test": 2})[:-30], "not a readable zip"),
        (make_zip({"readme.txt": b"hello"}), "two class folders"),
        (make_zip({"train/a/1.png": b"x", "valid/a/1.png": b"x"}), "it has: a"),
        (shapes_zip({"train": 3}, extra={"test/square/1.png": png(draw(9, 9))}), "no image in train.*square"),
        (shapes_zip({"train": 3}, extra={f"train/bar/b{n}.png": b"broken" for n in range(3)}), "3 of 12 images"),
        (make_zip({"train/a/1.png": png(draw(9, 9)), "train/b/1.png": png(draw(9, 9))}), "too few different images"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    """The reason is one sentence that says what is wrong and what to do."""
    with pytest.raises(TrainingError, match=reason):
        read(tmp_path, content)


def test_skipped_images_are_listed_in_words(tmp_path: Path) -> None:
    """Each with its name, what is wrong, and what its bytes really are."""
    jpeg = encode(Image.new("RGB", (40, 40)), "JPEG")
    extra = {
        "train/bar/a.png": b"",
        "train/bar/b.jpg": jpeg[:200],
        "train/bar/c.jpg": b"<!DOCTYPE html><title>404</title>",
        "train/bar/d.jpg": b"\0\0\0\x18ftypheic" + bytes(40),
        "train/bar/e.png": announce_png(30_000, 30_000),
    }
    skipped = read(tmp_path, shapes_zip({"train": 20, "valid": 2, "test": 2}, extra=extra)).skipped
    assert [(each.name, each.reason, each.format) for each in skipped] == [
        ("train/bar/a.png", "it is empty (0 bytes)", "empty"),
        ("train/bar/b.jpg", "it ends too early", "JPEG"),
        ("train/bar/c.jpg", "it is not an image of a supported format", "web page or XML"),
        ("train/bar/d.jpg", "it is not an image of a supported format", "HEIC"),
        ("train/bar/e.png", "it has too many pixels or bytes", "PNG"),
    ]


@pytest.mark.parametrize(
    ("copy", "origin", "says"),
    [
        ("valid/bar/9.png", "train/bar/000.png", "1 of 7 validation images are in train too, so validation flatters"),
        ("test/bar/9.png", "train/bar/000.png", "1 of 7 test images are in train too, so the test flatters"),
        ("test/bar/9.png", "valid/bar/000.png", "1 of 7 test images are in validation too, so the test flatters"),
        ("train/disc/9.png", "train/bar/000.png", "1 image has two labels: train/bar/000.png = train/disc/9.png"),
    ],
)
def test_copies_in_two_splits_or_classes_are_told(tmp_path: Path, copy: str, origin: str, says: str) -> None:
    """The same file in two splits flatters what is measured; under two labels, one of them is wrong."""
    whole = shapes_zip({"train": 3, "valid": 2, "test": 2})
    with zipfile.ZipFile(io.BytesIO(whole)) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    (warning,) = read(tmp_path, make_zip({**files, copy: files[origin]})).warnings
    assert says in warning


def test_an_entry_that_announces_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    """A compression bomb counts as an image that cannot be read."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("train/a/1.png", bytes(data.MAX_BYTES + 1))
    with zipfile.ZipFile(path) as opened, pytest.raises(UnreadableImage, match="more than"):
        data.read_entry(opened, "train/a/1.png")


def test_huge_headers_are_refused_before_decoding() -> None:
    """30,000 by 30,000 pixels are refused by the header alone."""
    with pytest.raises(UnreadableImage, match="limit"):
        open_rgb(announce_png(30_000, 30_000))


def test_an_upright_image_in_colour_is_not_copied() -> None:
    """Of a large photograph a copy takes as long as scaling it."""
    image = Image.new("RGB", (8, 8))
    assert flatten(turn_upright(image)) is image


@settings(deadline=None)
@given(width=st.integers(1, 300), height=st.integers(1, 300), size=st.sampled_from([8, 32, 112, 224]))
def test_any_shape_becomes_a_square(width: int, height: int, size: int) -> None:
    """However long and thin, an image becomes one square of the cache and one crop of the evaluation."""
    square = to_square(Image.new("RGB", (width, height), (10, 20, 30)), choose_resize(size))
    assert square.shape == (3, choose_resize(size), choose_resize(size))
    assert (square == np.array([10, 20, 30], dtype=np.uint8)[:, None, None]).all()
    assert crop_centre(torch.from_numpy(square.copy())[None], size).shape == (1, 3, size, size)


def test_inputs_are_normalised_as_imagenet_was() -> None:
    """A picture of ImageNet's mean colour becomes zeros; one standard deviation above becomes ones."""
    levels = [[round(255 * (mean + add * std)) for mean, std in zip(MEAN, STD, strict=True)] for add in (0, 1)]
    batch = torch.tensor(levels, dtype=torch.uint8).view(2, 3, 1, 1)
    assert torch.allclose(normalise(batch).flatten(1), torch.tensor([[0.0], [1.0]]), atol=0.01)


def make_batches(count: int, batch_size: int, seed: int = 0) -> Batches:
    numbers = torch.arange(count)
    return Batches(numbers.__getitem__, numbers, lambda inputs, _: inputs, batch_size=batch_size, seed=seed, device=CPU)


@settings(deadline=None)
@given(count=st.integers(2, 200), batch_size=st.integers(1, 64), epoch=st.integers(1, 9), data=st.data())
def test_an_epoch_draws_every_image_once_and_can_begin_anywhere(
    count: int, batch_size: int, epoch: int, data: st.DataObject
) -> None:
    """Batches are even, cover the split, and those from step k on are the same when the epoch begins there."""
    batches = make_batches(count, batch_size)
    drawn = [labels.tolist() for _, labels in batches.of_epoch(epoch)]
    assert sorted(number for batch in drawn for number in batch) == list(range(count))
    assert max(map(len, drawn)) - min(map(len, drawn)) <= 1
    first = data.draw(st.integers(0, batches.steps))
    assert [labels.tolist() for _, labels in batches.of_epoch(epoch, first)] == drawn[first:]


def test_order_depends_on_seed_and_epoch() -> None:
    """Each epoch and each seed has an order of its own."""
    orders = {
        tuple(torch.cat([labels for _, labels in make_batches(50, 10, seed).of_epoch(epoch)]).tolist())
        for seed in (0, 1)
        for epoch in (1, 2)
    }
    assert len(orders) == 4


def test_what_an_epoch_draws_does_not_depend_on_the_batch_size_or_where_it_begins() -> None:
    """Each place of an epoch has its image and its random numbers, from seed and epoch alone."""

    def draw_all(batch_size: int, first: int = 0) -> list[tuple[int, float]]:
        options = {"batch_size": batch_size, "seed": 3, "device": CPU, "draws": 1}
        batches = Batches(torch.arange(60).__getitem__, torch.arange(60), lambda _, chance: chance, **options)
        drawn = batches.of_epoch(2, first)
        return [pair for chance, own in drawn for pair in zip(own.tolist(), chance[:, 0].tolist(), strict=True)]

    whole = draw_all(60)
    assert draw_all(7) == whole
    assert draw_all(10, first=4) == whole[40:]
    assert len({chance for _, chance in whole}) == 60


def test_images_on_the_device_are_those_of_the_split(tmp_path: Path) -> None:
    """Batches are the same whether they are fetched or held; what does not fit is not held."""
    split = read(tmp_path, shapes_zip({"train": 10, "valid": 2, "test": 2})).train
    held = hold_split(split, CPU, free=2**30)
    assert held is not None
    assert torch.equal(held, split.images(torch.arange(len(split))))
    assert hold_split(split, CPU, free=len(split) * 3 * held.shape[-1] ** 2) is None
    options = {"batch_size": 7, "seed": 0, "device": CPU}
    batches = Batches(split.images, split.labels, lambda inputs, _: inputs, **options)
    fetched = [inputs.clone() for inputs, _ in batches.of_epoch(1, 1)]
    batches.held = held
    assert all(map(torch.equal, fetched, [inputs for inputs, _ in batches.of_epoch(1, 1)]))
    assert list(batches.of_epoch(1, batches.steps)) == []


def draw_chances(count: int) -> torch.Tensor:
    return torch.rand((count, DRAWS), generator=torch.Generator().manual_seed(5))


def test_augmentation_is_small_and_repeatable() -> None:
    """A changed picture stays the picture: close to the plain one, and the same for the same generator."""
    batch = torch.from_numpy(np.stack([to_square(draw(64, 64, seed=seed), 32) for seed in range(16)]))
    one, two = (augment(batch, draw_chances(16), size=32, flip=False) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == (16, 3, 32, 32)
    flat = torch.full((4, 3, 32, 32), 128, dtype=torch.uint8)
    change = (augment(flat, draw_chances(4), size=32, flip=False) - normalise(flat)).abs().max()
    assert 0 < change < 0.6


def test_nothing_is_mirrored_without_leave() -> None:
    """A bright left half stays left; with flipping, about half of the batch changes sides."""
    batch = torch.zeros(64, 3, 32, 32, dtype=torch.uint8)
    batch[..., :16] = 200
    for flip, expected in ((False, 0), (True, 32)):
        changed = augment(batch, draw_chances(64), size=32, flip=flip)
        right_is_brighter = int((changed[..., 24:].mean((1, 2, 3)) > changed[..., :8].mean((1, 2, 3))).sum())
        assert abs(right_is_brighter - expected) <= 12 * flip


@pytest.mark.parametrize(
    ("wish", "photographs", "flips"),
    [("auto", True, True), ("auto", False, False), ("true", False, True), ("false", True, False)],
)
def test_mirroring_is_for_photographs(wish: str, photographs: bool, flips: bool) -> None:
    """auto mirrors only what looks like photographs; the recipe has the last word."""
    assert choose_flip(wish, photographs) is flips


def test_large_coloured_images_look_like_photographs(tmp_path: Path) -> None:
    """Colour and size decide, by the typical image."""
    names = [f"train/{label}/{number}.png" for label in "ab" for number in range(30)]
    files = {name: png(smooth(seed)) for seed, name in enumerate(names)}
    assert read(tmp_path, make_zip(files)).photographs
