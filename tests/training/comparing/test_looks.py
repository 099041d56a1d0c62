"""Near copies across versions: images that look like one that a model has seen, by bits in its manifest alone."""

from __future__ import annotations

from functools import cache

import numpy as np
from comparing.history import Image, Seen
from comparing.looks import LOOK_TEXT, NEAR, choose_distance, find_near
from comparing.tables import sort_out
from images.pixels import to_square
from images.similar import describe_key
from PIL import Image as Picture

from tests.training.images.test_similar import KINDS, draw_scene

KNOWN, FRESH, COPIES = 300, 300, 20


def describe(picture: Picture.Image) -> tuple[str, str]:
    key, _, look = describe_key(to_square(picture, 64), looks=True).partition("-")
    return key, look


@cache
def see() -> Seen:
    """Return what a model has seen: scenes of five classes."""
    seen = Seen()
    seen.add((f"known-{seed}", "-".join(describe(draw_scene(seed)))) for seed in range(KNOWN))
    return seen


def list_copies() -> list[Image]:
    """Copy twenty scenes that were seen, each kind of copy in its turn."""
    rng, kinds = np.random.default_rng(7), list(KINDS.values())
    copies = (kinds[seed % len(kinds)](draw_scene(seed), rng) for seed in range(COPIES))
    return [
        Image(f"{n}.png", "a", f"copy-{n}", key, "test", look) for n, (key, look) in enumerate(map(describe, copies))
    ]


def test_eighteen_of_twenty_copies_are_left_out() -> None:
    """Re-encoded, resized, mirrored, cropped and turned ones, and the next of a burst; equal keys find half of them."""
    copies = list_copies()
    assert sort_out(copies, see(), {"a"}, 1_000)[1]["near_duplicates"] >= 18
    assert sort_out(copies, Seen(keys=see().keys), {"a"}, 1_000)[1]["near_duplicates"] <= 12


def test_no_other_image_is_left_out() -> None:
    """Of three hundred other scenes all are compared."""
    looks = [describe(draw_scene(50_000 + seed)) for seed in range(FRESH)]
    fresh = [Image(f"{n}.png", "a", f"fresh-{n}", key, "test", look) for n, (key, look) in enumerate(looks)]
    kept, left_out = sort_out(fresh, see(), {"a"}, 1_000)
    assert (len(kept), left_out["near_duplicates"]) == (FRESH, 0)


def test_images_that_are_alike_across_classes_need_more_likeness() -> None:
    """Where other classes look nearly the same, that is no sign of a copy; among scenes it is rare."""
    scenes = [describe(draw_scene(seed))[1] for seed in range(60)]
    assert choose_distance(scenes, [str(number % 5) for number in range(60)]) == NEAR
    alike = [
        describe(KINDS["burst"](draw_scene(number // 2), np.random.default_rng(number)))[1] for number in range(60)
    ]
    assert choose_distance(alike, [str(number % 2) for number in range(60)]) < 0.8 * NEAR


def test_things_on_a_white_ground_have_no_look() -> None:
    """Most of their bits would say the same of all of them."""
    picture = Picture.new("RGB", (64, 64), "white")
    picture.paste((200, 30, 30), (26, 26, 38, 38))
    assert describe(picture)[1] == ""


def test_what_is_no_look_equals_nothing() -> None:
    """Another job's manifest may hold anything."""
    assert find_near(["", "zz", "0" * (LOOK_TEXT - 1)], ["", "zz", "0" * LOOK_TEXT]) == [False, False, False]
    assert find_near(["0" * LOOK_TEXT], ["0" * LOOK_TEXT]) == [True]
