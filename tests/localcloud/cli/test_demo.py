"""Test what the demo shows of plain snapshots, its dataset, and which images it asks about."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from client.api import Api
from client.config import Login
from localcloud.cli.demo import User, run_demo, tell_answers
from localcloud.cli.digits import RECIPE, build_digits_zip, draw_png, split_class, write_digits_zip
from localcloud.cli.questions import Picture, choose_pictures
from localcloud.common.addresses import CannotStart, Place


def test_the_digits_are_the_same_every_time() -> None:
    """The zip holds 1,797 images of ten classes, 70/15/15 per cent of each."""
    packed = build_digits_zip()
    assert packed == build_digits_zip()
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert len(set(names)) == 1797
    for label in range(10):
        counts = [sum(name.startswith(f"{split}/{label}/") for name in names) for split in ("train", "valid", "test")]
        assert sum(counts) in range(170, 190)
        assert counts[0] / sum(counts) == pytest.approx(0.7, abs=0.01)
        assert counts[1] / sum(counts) == pytest.approx(0.15, abs=0.01)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 183])
def test_every_picture_has_a_split(count: int) -> None:
    """Every image has a split, and train is never empty."""
    splits = split_class(count)
    assert len(splits) == count
    assert "train" in splits


def test_pngs_are_what_a_decoder_reads() -> None:
    """A decoder reads back the grey values."""
    from PIL import Image

    pixels = bytes(range(64))
    image = Image.open(io.BytesIO(draw_png(pixels)))
    assert (image.size, image.mode, image.tobytes()) == ((8, 8), "L", pixels)


def pack(folder: Path, *names: str) -> Path:
    with zipfile.ZipFile(folder / "dogs.zip", "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return folder / "dogs.zip"


def test_pictures_come_from_the_test_split(tmp_path: Path) -> None:
    """One image a class is chosen, with the class of its folder; hidden files and files of other types are ignored."""
    names = [f"dogs/{split}/{label}/{n}.jpg" for split in ("train", "test") for label in "abcdef" for n in (1, 2)]
    chosen = choose_pictures(pack(tmp_path, *names, "__MACOSX/dogs/test/a/._1.jpg", "dogs/test/a/notes.txt"))
    assert [(picture.name, picture.true_class) for picture in chosen] == [
        ("dogs/test/a/1.jpg", "a"),
        ("dogs/test/c/1.jpg", "c"),
        ("dogs/test/e/1.jpg", "e"),
    ]
    assert chosen[0].content_type == "image/jpeg"


def test_without_a_test_split_any_picture_will_do(tmp_path: Path) -> None:
    """Images of any split are chosen in a dataset that has class folders only."""
    chosen = choose_pictures(pack(tmp_path, "cats/1.PNG", "dogs/1.webp"))
    assert [picture.true_class for picture in chosen] == ["cats", "dogs"]


def test_the_digits_come_with_their_recipe(tmp_path: Path) -> None:
    """The recipe lies beside the zip, as a user's own does."""
    path = write_digits_zip(tmp_path / "demo")
    assert path.read_bytes() == build_digits_zip()
    assert json.loads(path.with_suffix(".json").read_text()) == RECIPE


def test_a_zip_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A missing zip is reported before anything starts."""
    with pytest.raises(CannotStart, match=r"no file .*dogs\.zip"):
        run_demo(Place(tmp_path), tmp_path / "dogs.zip")


def test_names_are_shown_as_they_are() -> None:
    """Brackets are parts of the names of files and classes, not styles."""
    answer = {"results": [{"predictions": [{"class": "cat [red]", "probability": 0.5}]}]}
    api = Api(Login("http://api", "token"), httpx.MockTransport(lambda _request: httpx.Response(200, json=answer)))
    console = Console(width=100, file=io.StringIO())
    with console.capture() as shown:
        tell_answers(User(None, api, "pictures"), "cats", [Picture("of [/x].jpg", "[blue] cat", b"")], console)
    assert "✗ of [/x].jpg: cat [red] 50.0%  (it is [blue] cat)" in shown.get()
