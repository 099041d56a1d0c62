"""Mutated zips and images are read or refused in words, by both units alike; `make fuzz` reads many more."""

from __future__ import annotations

from tests.support.datasets.fuzz import SECONDS, list_images, list_zips, read_image, read_zip, run


def test_mutated_zips_are_read_or_refused() -> None:
    """No exception but the refusals, and none that takes long."""
    assert max(run(200, list_zips(), read_zip, 3)) < SECONDS


def test_mutated_images_are_read_alike_or_refused() -> None:
    """The training program and the endpoint see the same pixels, or both refuse."""
    assert max(run(150, list_images(), read_image, 4)) < SECONDS
