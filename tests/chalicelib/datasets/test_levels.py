"""The table of folders in docs/datasets.md: each row is read as it says."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from chalicelib.datasets.preflight import DatasetReport, Wishes, inspect_dataset
from tests.support.datasets.kinds import even
from tests.support.layouts import pack

PAGE = Path(__file__).parents[3] / "docs" / "datasets.md"
TOLD = {"unlabelled_images", "ignored_images", "hidden_images", "class_level_taken"}


def list_rows() -> list[tuple[str, str, str]]:
    """Return the table's rows: folders, recipe, reading."""
    table = PAGE.read_text(encoding="utf-8").partition("levels: begin -->\n")[2].partition("<!-- levels: end")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return [(folders, recipe, reading) for folders, recipe, reading in rows]


def describe(report: DatasetReport) -> str:
    """Write a report as the table does."""
    if report.problems:
        return "rejected: " + ", ".join(f"`{problem.code}`" for problem in report.problems)
    splits = [f"{split}: {', '.join(classes)}" for split, classes in report.splits.items()]
    return "; ".join([*splits, *(f"`{each.code}`" for each in report.warnings if each.code in TOLD)])


@pytest.mark.parametrize(("folders", "recipe", "reading"), list_rows())
def test_the_row_is_read_as_it_says(folders: str, recipe: str, reading: str) -> None:
    """The documentation's examples are what pre-flight does."""
    level = re.fullmatch(r"`class_level` (\d)", recipe)
    wishes = Wishes(class_level=int(level[1]) if level else None)
    body = pack(even(re.findall("`([^`]+)`", folders)))
    assert describe(inspect_dataset(io.BytesIO(body), wishes=wishes)) == reading


def test_the_table_has_rows() -> None:
    """The table is found, so that the test above is of something."""
    assert len(list_rows()) > 15
