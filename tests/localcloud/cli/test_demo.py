"""Test what the demo shows of plain snapshots, its dataset, and which images it asks about."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError
from rich.console import Console

from localcloud.cli.demo import User, run_demo, watch_run
from localcloud.cli.digits import RECIPE, build_digits_zip, draw_png, split_class, write_digits_zip
from localcloud.cli.questions import choose_pictures
from localcloud.cli.view import Snapshot, estimate_left, list_changes, measure_progress, render
from localcloud.common.addresses import CannotStart, Place
from tests.localcloud.hosting import serve


def make_trial(number: int, status: str, objective: float | None = None) -> dict[str, Any]:
    hyperparameters = {"learning_rate": "0.5", "batch_size": "32"}
    return {"name": f"trial-{number}", "status": status, "hyperparameters": hyperparameters, "objective": objective}


def make_snapshot(status: str, elapsed: float = 10, epochs: dict[str, int] | None = None, **run: Any) -> Snapshot:
    records = {
        name: [{"epoch": n + 1, "valid": {"accuracy": 0.9, "score": 0.8}} for n in range(count)]
        for name, count in (epochs or {}).items()
    }
    told = {"run_id": "r", "dataset": "d", "status": status, "recipe": {"epochs": 4, "trials": 2}, **run}
    return Snapshot(told, records, elapsed)


def draw(snapshot: Snapshot) -> str:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(render(snapshot))
    return console.export_text()


RUNNING = make_snapshot(
    "tuning", 30, {"trial-1": 4, "trial-2": 2}, trials=[make_trial(1, "Completed", 0.97), make_trial(2, "InProgress")]
)
TRAINING = make_snapshot(
    "training",
    50,
    {"trial-1": 4, "trial-2": 4, "r-train": 1},
    trials=[make_trial(1, "Completed", 0.97), make_trial(2, "Completed", 0.98)],
    best={"name": "trial-2"},
    training={"name": "r-train", "status": "InProgress"},
)


def test_the_picture_shows_stage_trials_epochs_and_time() -> None:
    """The view shows each trial's hyperparameters and epoch, and its objective as soon as there is one."""
    text = draw(RUNNING)
    for told in ("tuning", "learning_rate", "batch_size", "0.97", "4/4", "2/4", "0:30 gone", "0:30 left"):
        assert told in text, told


def test_notes_of_a_run_come_first() -> None:
    """What is not as the recipe asks for is shown above the trials, and printed once where there is no terminal."""
    noted = make_snapshot("tuning", notes=["Trained from scratch."], trials=[make_trial(1, "InProgress")])
    assert draw(noted).index("Trained from scratch.") < draw(noted).index("learning_rate")
    assert next(iter(list_changes(make_snapshot("tuning"), noted))) == "    Trained from scratch."
    assert "    Trained from scratch." not in list_changes(noted, noted)


def test_the_picture_shows_the_training_that_follows() -> None:
    """The view shows the training's epochs and their scores."""
    assert "training with the best · epoch 1/4 · valid accuracy 0.900" in draw(TRAINING)


def test_a_failed_run_is_drawn() -> None:
    """A failed run's status stands out, whatever else is missing."""
    assert "rejected" in draw(make_snapshot("rejected"))


def test_progress_counts_epochs() -> None:
    """All trials and the last training count; a trial that stopped early counts in full; only the end is 100 %."""
    assert measure_progress(make_snapshot("checking")) == 0
    assert measure_progress(RUNNING) == pytest.approx(6 / 12)
    assert measure_progress(TRAINING) == pytest.approx(9 / 12)
    assert measure_progress(make_snapshot("deployed")) == 1


def test_time_left_is_told_once_there_is_something_to_go_by() -> None:
    """No time left is shown before the first epoch."""
    assert estimate_left(make_snapshot("tuning")) is None
    assert estimate_left(RUNNING) == pytest.approx(30)


def test_plain_lines_tell_each_change_once() -> None:
    """Each change is one line where the output is not a terminal."""
    assert list(list_changes(None, make_snapshot("checking", 0))) == ["[0:00] checking"]
    begun = make_snapshot("tuning", 5, {"trial-1": 1}, trials=[make_trial(1, "InProgress")])
    assert list(list_changes(make_snapshot("checking"), begun)) == [
        "[0:05] tuning",
        "    trial 1 starts: batch_size=32 learning_rate=0.5",
        "    trial 1 epoch 1/4: valid accuracy 0.900, score 0.800",
    ]
    assert list(list_changes(RUNNING, RUNNING)) == []
    lines = list(list_changes(RUNNING, TRAINING))
    assert "    trial 2 Completed, objective 0.98" in lines
    assert "    training epoch 1/4: valid accuracy 0.900, score 0.800" in lines


class NoObjects:
    """An S3 whose bucket is empty."""

    def get_object(self, **_request: Any) -> Any:
        raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")


def test_a_run_is_watched_to_its_end() -> None:
    """Without a terminal, each change is printed once, with nothing in between; the last answer is returned."""
    stages = [make_snapshot("checking"), make_snapshot("checking"), make_snapshot("failed", reason="no luck")]
    answers = iter([dict(stage.run) for stage in stages])

    async def api(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(next(answers)).encode()})

    printed = io.StringIO()
    with serve(api) as url:
        user = User(NoObjects(), httpx.Client(base_url=url), "bucket")
        run = watch_run(user, "r", Console(file=printed), seconds=0.01)
    assert run["reason"] == "no luck"
    assert printed.getvalue() == "[0:00] checking\n[0:00] failed\n"


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
