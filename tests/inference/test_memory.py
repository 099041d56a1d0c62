"""What the costliest images that are let in cost an endpoint's memory, which is reckoned with them."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from preprocessing import MAX_PIXELS, MAX_WEBP_PIXELS, TILE, convert_to_rgb, decode_image
from refusals import Refusal

from chalicelib.datasets.contents import DatasetLimits
from chalicelib.recipes.serving_memory import COSTLIEST_IMAGE_MB
from tests.support.image_kinds import COSTLY, draw, encode, paint


def measure_peak(path: Path) -> int:
    """The megabytes that decoding a file takes at its peak, in a process of its own."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            decode_image(path.read_bytes())
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        except BaseException:  # noqa: BLE001  whatever it is, the parent must hear of it and go on alone
            peak = 1 << 40
        os.write(write, str(peak // 1024).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as told:
        return int(told.read())


@pytest.mark.parametrize("kind", COSTLY)
def test_the_costliest_images_stay_within_the_estimate(tmp_path: Path, kind: str) -> None:
    """Each kind that Pillow holds most of, with all the pixels that are let in."""
    path = tmp_path / "image"
    path.write_bytes(COSTLY[kind]())
    with Image.open(path) as image:
        assert image.width * image.height >= 0.98 * (MAX_WEBP_PIXELS if image.format == "WEBP" else MAX_PIXELS)
    assert measure_peak(path) <= COSTLIEST_IMAGE_MB


def test_a_webp_of_more_pixels_is_refused_by_its_header() -> None:
    """Its decoder would hold five times the image; the message has the limit."""
    with pytest.raises(Refusal, match="8192 x 3100 pixels; at most 25 megapixels are read"):
        decode_image(encode(paint((8_192, 3_100)), "WEBP", lossless=True, method=0))


def test_the_dataset_is_held_to_the_same_limits() -> None:
    """What the endpoint refuses is told before anything is trained on it."""
    limits = DatasetLimits()
    assert (limits.max_pixels, limits.max_webp_pixels) == (MAX_PIXELS, MAX_WEBP_PIXELS)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "I;16", "CMYK", "1"])
@pytest.mark.parametrize("size", [(1_500, 1_100), (TILE + 5_000, 1), (1, TILE + 5_000)])
def test_tiles_leave_no_seam(mode: str, size: tuple[int, int]) -> None:
    """Each image of more than one tile equals what its halves become."""
    image = draw(*size, mode)
    if mode == "P":
        image.info["transparency"] = 3
    whole = np.asarray(convert_to_rgb(image))
    axis = int(size[0] > 1)
    cut = size[1 - axis] // 2
    boxes = [(0, 0, cut, size[1]), (cut, 0, *size)] if axis else [(0, 0, 1, cut), (0, cut, *size)]
    halves = np.concatenate([np.asarray(convert_to_rgb(image.crop(box))) for box in boxes], axis=axis)
    assert np.array_equal(whole, halves)


def test_a_photo_that_holds_several_is_read_as_its_first() -> None:
    """An MPO, as phones write it under the name of a JPEG."""
    photos = [draw(60, 40, seed=seed) for seed in range(2)]
    image = decode_image(encode(photos[0], "MPO", save_all=True, append_images=photos[1:]))
    assert (image.mode, image.size) == ("RGB", (60, 40))
