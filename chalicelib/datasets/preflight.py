"""Pre-flight: report what a dataset's zip holds and everything that is wrong with it, before anything is launched.

It reads the end of the archive and the beginnings of a few hundred images by ranged reads, never the whole. The price
is that only the training program finds a broken image outside the sample.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, BinaryIO

from chalicelib.datasets.archives import open_archive
from chalicelib.datasets.checks import (
    find_class_problems,
    find_excess,
    find_foreign_files,
    warn_of_counts,
    warn_of_names,
)
from chalicelib.datasets.contents import DatasetLimits, sort_out
from chalicelib.datasets.entries import find_entry_problems
from chalicelib.datasets.findings import Finding
from chalicelib.datasets.samples import find_bad_pictures

__all__ = ["DatasetLimits", "DatasetReport", "inspect_dataset"]

FORMAT = 1


@dataclass(frozen=True)
class DatasetReport:
    """The content of `dataset.json`. `splits` counts images by split and class; `bytes` is their unpacked size."""

    problems: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    images: int = 0
    bytes: int = 0
    root: str = ""

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "ok": self.ok,
            "problems": [problem.as_dict() for problem in self.problems],
            "warnings": [warning.as_dict() for warning in self.warnings],
            "classes": self.classes,
            "splits": self.splits,
            "images": self.images,
            "bytes": self.bytes,
            "root": self.root,
        }


def inspect_dataset(archive: BinaryIO, limits: DatasetLimits | None = None) -> DatasetReport:
    """Report what is in a dataset's zip, with all problems and warnings at once.

    `archive` must be seekable; it is read by ranges and not closed. A bad archive never raises; only a failure to read
    it does (an OSError or an error from AWS).
    """
    limits = limits or DatasetLimits()
    opened = open_archive(archive, limits.max_entries)
    if opened.archive is None:
        return DatasetReport(problems=opened.problems)
    contents = sort_out(opened.archive.entries)
    counts = contents.splits()
    bad_pictures, odd_pictures = find_bad_pictures(opened.archive, contents, limits)
    return DatasetReport(
        problems=[
            *find_entry_problems(opened.archive),
            *find_foreign_files(contents),
            *find_class_problems(contents),
            *find_excess(contents, limits),
            *bad_pictures,
        ],
        warnings=[*opened.warnings, *odd_pictures, *warn_of_counts(counts, limits), *warn_of_names(contents)],
        classes=sorted(contents.classes()),
        splits=counts,
        images=sum(sum(each.values()) for each in counts.values()),
        bytes=sum(image.file_size for image in contents.all_images()),
        root=contents.layout.prefix,
    )
