"""Pre-flight: report what a dataset's zip holds and everything that is wrong with it, before anything is launched.

It reads the end of the archive and the beginnings of a few hundred images by ranged reads, never the whole. The price
is that only the training program finds a broken image outside the sample.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, BinaryIO

from chalicelib.datasets.archives import Archive, open_archive
from chalicelib.datasets.checks import find_class_problems, find_excess, find_foreign_files, find_label_problems
from chalicelib.datasets.contents import (
    Contents,
    DatasetLimits,
    add_images,
    group_files,
    list_unknown,
    sort_by_tables,
    sort_out,
)
from chalicelib.datasets.entries import find_entry_problems
from chalicelib.datasets.findings import Finding
from chalicelib.datasets.reading.labels import LabelTable, Wishes
from chalicelib.datasets.remarks import (
    warn_of_copies,
    warn_of_counts,
    warn_of_ignored,
    warn_of_level,
    warn_of_names,
    warn_of_strays,
)
from chalicelib.datasets.samples import find_bad_pictures, read_tables, tell_images

__all__ = ["DatasetLimits", "DatasetReport", "Wishes", "inspect_dataset"]

FORMAT = 1


@dataclass(frozen=True)
class DatasetReport:
    """The content of `dataset.json`. `splits` counts images by split and class; `bytes` is their unpacked size.

    `form` says where the labels come from: `folders`, `file` (with its name in `labels`) or `pattern`.
    """

    problems: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    images: int = 0
    bytes: int = 0
    root: str = ""
    form: str = "folders"
    labels: list[str] = field(default_factory=list)

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
            "form": self.form,
            **({"labels": self.labels} if self.labels else {}),
        }


def inspect_dataset(
    archive: BinaryIO, limits: DatasetLimits | None = None, wishes: Wishes | None = None
) -> DatasetReport:
    """Report what is in a dataset's zip, with all problems and warnings at once.

    `archive` must be seekable; it is read by ranges and not closed. `wishes` are what the recipe says about reading it.
    A bad archive never raises; only a failure to read it does (an OSError or an error from AWS).
    """
    limits, wishes = limits or DatasetLimits(), wishes or Wishes()
    opened = open_archive(archive, limits.max_entries, wishes.name_encoding)
    if opened.archive is None:
        return DatasetReport(problems=opened.problems)
    contents, tables = read_contents(opened.archive, limits, wishes)
    counts = contents.splits()
    bad_pictures, odd_pictures = find_bad_pictures(opened.archive, contents, limits)
    return DatasetReport(
        problems=[
            *find_entry_problems(opened.archive),
            *find_foreign_files(contents),
            *(find_label_problems(contents, tables, wishes) or find_class_problems(contents)),
            *find_excess(contents, limits),
            *bad_pictures,
        ],
        warnings=[
            *opened.warnings,
            *odd_pictures,
            *warn_of_strays(contents),
            *warn_of_counts(counts, limits),
            *warn_of_copies(contents),
            *warn_of_level(contents),
            *warn_of_names(contents),
            *warn_of_ignored(contents, wishes),
        ],
        classes=sorted(contents.classes()),
        splits=counts,
        images=sum(sum(each.values()) for each in counts.values()),
        bytes=sum(image.file_size for image in contents.all_images()),
        root=contents.layout.prefix,
        form=contents.form,
        labels=sorted(tables),
    )


def read_contents(archive: Archive, limits: DatasetLimits, wishes: Wishes) -> tuple[Contents, dict[str, LabelTable]]:
    """Sort the archive's entries, and read the files of labels if they are what labels are read from."""
    files = group_files(archive.entries, wishes.ignore)
    if unknown := list_unknown(files):
        add_images(files, tell_images(archive, unknown, limits))
    contents = sort_out(files, wishes)
    tables = read_tables(archive, contents) if contents.form == "file" else {}
    if contents.form == "file":
        is_sound = not any(table.problem for table in tables.values())
        sort_by_tables(contents, files, tables if is_sound else {})
    return contents, tables
