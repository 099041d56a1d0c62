"""Test what the tables of the `whippet` command show, by the API's answers alone."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import pytest
from rich.console import Console

from client.rendering import list_models, list_runs, list_trials, show_quality, tell_approval

LISTED = {
    "run_id": "whippet-local-flowers-1bbadd7d", "dataset": "flowers", "status": "declined", "accuracy": 0.273,
    "images": 85, "seconds": 281, "spent_usd": 0.03, "created_at": "2026-11-28T08:31:00+00:00", "reason": "word " * 90,
}  # fmt: skip
ROWS = [("pug", 0.0, 12), ("husky", 0.0, 2), ("beagle", 0.75, 8), ("boxer", 0.0, 0)]
CLASSES = [{"class": name, "recall": recall, "support": support} for name, recall, support in ROWS]


def write(parts: Iterable[Any], width: int = 80) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [60, 80, 160])
def test_each_run_is_one_line_in_any_terminal(width: int) -> None:
    """No cell is cut; what matters most stays; a long reason is told by `whippet run`."""
    lines = write([list_runs([LISTED, LISTED], is_billed=True, width=width)], width)
    assert len(lines) == 3
    assert lines[1].split()[0] == LISTED["run_id"]
    assert "27.3%" in lines[1]
    assert "…" not in lines[1]
    assert ("flowers " in lines[1]) == (width == 160)


@pytest.mark.parametrize("width", [20, 40, 48, 60, 80])
def test_a_runs_id_can_be_copied_from_any_terminal(width: int) -> None:
    """Even the longest: every other command asks for it."""
    run = LISTED | {"run_id": "whippet-dev-flowers-ab-1bbadd7de", "status": "superseded"}
    lines = write([list_runs([run], is_billed=False, width=width)], width)
    assert "".join(line.split(" ")[0] for line in lines).endswith(str(run["run_id"]))
    assert width < 48 or run["run_id"] in lines[-1]


def test_the_list_says_that_nobody_is_charged() -> None:
    """The prices are AWS's."""
    shown = "\n".join(write([list_runs([LISTED], is_billed=False, width=160)], 160))
    assert "free here;" in shown
    assert "on AWS" in shown
    assert "$0.03" in shown


def test_an_approval_that_was_carried_out_is_not_announced_again() -> None:
    """The API answers a second approval with the status that the run has by then."""
    assert tell_approval({"run_id": "x-1", "status": "deploying"}).startswith("Approved. It begins within two minutes.")
    assert tell_approval({"run_id": "x-1", "status": "deployed"}) == "x-1 is deployed already."


def test_empty_lists_say_how_they_are_filled() -> None:
    """A table's head alone would say nothing."""
    (runs,), (models,) = write([list_runs([], is_billed=True, width=80)]), write([list_models([])])
    assert "whippet upload" in runs
    assert "No models yet" in models


def test_classes_that_are_never_recognised_are_all_named() -> None:
    """As on the page; a class without a test image is none of them."""
    shown = write(show_quality({"accuracy": 0.27, "images": 22, "classes": CLASSES}))
    assert "Cannot do pug, husky: no test image of them was recognised" in shown


def test_trials_have_the_numbers_that_the_page_gives_them() -> None:
    """The job's own name has leading zeros."""
    trial = {"name": "x-002-def", "status": "Completed", "objective": 0.5, "hyperparameters": {}}
    assert write([list_trials([trial | {"name": "x-001-abc"}, trial])])[2].split()[0] == "2"
