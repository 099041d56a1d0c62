"""What changed between two versions of a dataset, for the report."""

from __future__ import annotations

from typing import Any

from chalicelib.pipeline.verdicts import Story, fill_report
from chalicelib.runs.changes import Version, list_changes

RECIPE = {"epochs": 8, "architecture": "resnet18", "ranges": {"learning_rate": {"min": 0.1, "max": 10}}}
PAGE = b"<main><!-- changes --></main><!-- verdict --><!-- /verdict -->"


def make_version(run_id: str, accuracy: float, recipe: dict[str, Any], **counts: int) -> Version:
    """A version whose classes have so many images, in two splits."""
    splits = {"train": {name: count - 1 for name, count in counts.items()}, "test": dict.fromkeys(counts, 1)}
    return Version(run_id, {"splits": splits}, recipe, {"accuracy": accuracy})


BEFORE = make_version("r-1", 0.9, RECIPE, beagle=40, pug=30, husky=20, boxer=10)
NARROWER = {"epochs": 12, "ranges": {"learning_rate": {"min": 0.2, "max": 10}}}
AFTER = make_version("r-2", 0.915, RECIPE | NARROWER, beagle=62, pug=30, husky=19, collie=5)


def test_images_classes_settings_and_accuracy_are_compared() -> None:
    """Only what differs is listed: the totals first, then classes, settings and the accuracy."""
    assert list(list_changes(BEFORE, AFTER)) == [
        ("images", "100", "116"),
        ("only there", "boxer", "collie"),
        ("images of beagle", "40", "62"),
        ("images of husky", "20", "19"),
        ("epochs", "8", "12"),
        ("ranges.learning_rate.min", "0.1", "0.2"),
        ("test accuracy", "90.0%", "91.5%"),
    ]


def test_of_many_changed_classes_those_that_changed_most_are_told() -> None:
    """The others are counted."""
    many = {f"c{number}": 10 for number in range(30)}
    more = {name: count + number for number, (name, count) in enumerate(many.items())}
    rows = list(list_changes(make_version("r-1", 0.5, {}, **many), make_version("r-2", 0.5, {}, **more)))
    assert [what for what, _, _ in rows[1:6]] == [f"images of c{number}" for number in (29, 28, 27, 26, 25)]
    assert rows[6] == ("images of other classes", "", "24 more changed")


def test_a_version_that_knows_nothing_is_no_change() -> None:
    """A run whose files are gone is not taken for one with nothing in it."""
    assert list(list_changes(Version("r-1", recipe=RECIPE), Version("r-2", AFTER.report, RECIPE))) == []


def test_the_report_shows_the_changes() -> None:
    """In a table where the training left room; nothing for a dataset's first version."""
    result = {"dataset": "dogs", "status": "stopped"}
    assert fill_report(PAGE, Story(result)).startswith(b"<main></main>")
    page = fill_report(PAGE, Story(result, versions=(BEFORE, AFTER))).decode()
    assert "What changed since the last version" in page
    assert "Compared with r-1" in page
    assert "<tr><td>images of beagle</td><td>40</td><td>62</td></tr>" in page
