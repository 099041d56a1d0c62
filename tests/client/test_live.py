"""Test how a run in progress is shown: in a terminal, and line by line elsewhere."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from client.api import Api, ApiError
from client.config import Login
from client.live import Snapshot, estimate_left, list_changes, measure_progress, render
from client.watching import follow
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
    for told in ("tuning", "learning_rate", "batch_size", "97.0%", "4/4", "2/4", "0:30 gone", "0:50 left"):
        assert told in text, told


def test_notes_of_a_run_come_first() -> None:
    """What is not as the recipe asks for is shown above the trials, and printed once where there is no terminal."""
    noted = make_snapshot("tuning", notes=["Trained from scratch."], trials=[make_trial(1, "InProgress")])
    assert draw(noted).index("Trained from scratch.") < draw(noted).index("learning_rate")
    assert next(iter(list_changes(make_snapshot("tuning"), noted))) == "    Trained from scratch."
    assert "    Trained from scratch." not in list_changes(noted, noted)


def test_the_picture_shows_the_training_that_follows() -> None:
    """The view shows the training's epochs and their scores."""
    assert "final training · epoch 1/4 · validation accuracy 90.0%" in draw(TRAINING)


def test_a_failed_run_is_drawn() -> None:
    """A failed run's status stands out, whatever else is missing."""
    assert "rejected" in draw(make_snapshot("rejected"))


def test_progress_counts_epochs() -> None:
    """All trials and the final training count; a trial that stopped early counts in full; only the end is 100 %."""
    assert measure_progress(make_snapshot("checking")) == 0
    assert measure_progress(RUNNING) == pytest.approx(6 / 16)
    assert measure_progress(TRAINING) == pytest.approx(9 / 16)
    assert measure_progress(make_snapshot("deployed")) == 1


def test_time_left_is_told_once_there_is_something_to_go_by() -> None:
    """No time left is shown before the first epoch."""
    assert estimate_left(make_snapshot("tuning")) is None
    assert estimate_left(RUNNING) == pytest.approx(50)


def test_plain_lines_tell_each_change_once() -> None:
    """Each change is one line where the output is not a terminal."""
    assert list(list_changes(None, make_snapshot("checking", 0))) == ["[0:00] checking"]
    begun = make_snapshot("tuning", 5, {"trial-1": 1}, trials=[make_trial(1, "InProgress")])
    assert list(list_changes(make_snapshot("checking"), begun)) == [
        "[0:05] tuning",
        "    trial 1 starts: batch_size=32 learning_rate=0.5",
        "    trial 1 epoch 1/4: validation accuracy 90.0%",
    ]
    assert list(list_changes(RUNNING, RUNNING)) == []
    lines = list(list_changes(RUNNING, TRAINING))
    assert "    trial 2 Completed, score 98.0%" in lines
    assert "    training epoch 1/4: validation accuracy 90.0%" in lines


def answer_with(*stages: Snapshot) -> Any:
    """Return an app that answers GET /runs/r with one stage after another, the last again and again."""
    answers = [dict(stage.run) for stage in stages]

    async def api(scope: Any, _receive: Any, send: Any) -> None:
        is_run = scope["path"] == "/runs/r"
        body = (answers.pop(0) if len(answers) > 1 else answers[0]) if is_run else {"jobs": CURVES}
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    return api


CURVES = [{"name": "trial-1", "start": None, "epochs": [{"epoch": 1, "valid": {"accuracy": 0.5}}], "best": None}]


def test_a_run_is_followed_to_its_end() -> None:
    """Without a terminal, each change is printed once, with nothing in between; the last answer is returned."""
    tuning = make_snapshot("tuning", trials=[make_trial(1, "InProgress")])
    stages = [make_snapshot("checking"), make_snapshot("checking"), tuning, make_snapshot("failed", reason="no luck")]
    printed = io.StringIO()
    with serve(answer_with(*stages)) as url:
        run = follow(Api(Login(url, "t")), "r", Console(file=printed, width=200), seconds=0.01)
    assert run["reason"] == "no luck"
    assert printed.getvalue().splitlines() == [
        "[0:00] checking",
        "[0:00] tuning",
        "    trial 1 starts: batch_size=32 learning_rate=0.5",
        "    trial 1 epoch 1/4: validation accuracy 50.0%",
        "[0:00] failed",
    ]


def test_a_run_in_which_nothing_changes_is_given_up() -> None:
    """The error says how it stands."""
    with serve(answer_with(make_snapshot("tuning"))) as url, pytest.raises(ApiError, match="r is tuning; nothing has"):
        follow(Api(Login(url, "t")), "r", Console(file=io.StringIO()), seconds=0.01, patience=0.05)
