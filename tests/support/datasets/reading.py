"""Read zips as pre-flight and as the training program do, and print both: a script for any version of Python.

`python -m tests.support.datasets.reading FOLDER` reads FOLDER/*.zip, each with the recipe's members beside it, as
FOLDER/*.json.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "training")]

from images.layout import list_entries, read_layout  # noqa: E402
from images.reading import labels as training  # noqa: E402

from chalicelib.datasets.preflight import DatasetReport, Wishes, inspect_dataset  # noqa: E402

Counts = dict[str, dict[str, int]]


def make_wishes(kind: Any, given: Mapping[str, Any]) -> Any:
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def read_as_training(path: Path, given: Mapping[str, Any]) -> Counts:
    """Return what the training program takes for images, by split and class."""
    wishes = make_wishes(training.Wishes, given)
    with zipfile.ZipFile(path) as opened:
        entries = list_entries(opened, wishes.name_encoding)
        samples = read_layout(entries, wishes, lambda name, most: opened.open(entries[name]).read(most)).samples
    counted = Counter((sample.split, sample.label) for sample in samples)
    splits = [split for split in ("train", "valid", "test") if any(split == part for part, _ in counted)]
    return {split: {label: counted[s, label] for s, label in sorted(counted) if s == split} for split in splits}


def read_as_preflight(path: Path, given: Mapping[str, Any]) -> DatasetReport:
    with path.open("rb") as archive:
        return inspect_dataset(archive, wishes=make_wishes(Wishes, given))


def main(folder: Path) -> None:
    seen = {}
    for path in sorted(folder.glob("*.zip")):
        given = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        report = read_as_preflight(path, given)
        codes = [[each.code for each in found] for found in (report.problems, report.warnings)]
        seen[path.stem] = [report.splits, read_as_training(path, given), *codes]
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
