"""Read labels from a file beside the images, or from the images' names by a pattern. Pure.

`chalicelib/datasets/reading/` and `training/images/reading/` hold the same text, which a test compares: pre-flight and
the training program are shipped apart, and must read every dataset alike.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

# Hugging Face's imagefolder, its JSON form, the usual name, and Roboflow's table of one column a class.
LABEL_FILES = ("metadata.csv", "labels.csv", "metadata.jsonl", "_classes.csv")
MAX_LABEL_BYTES = 50_000_000
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
FILE_COLUMNS = (
    *("file_name", "filename", "file", "image", "image_name", "path", "file_path", "filepath", "image_path"),
    *("name", "img", "image_id", "id"),
)
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "target", "tag", "tags", "classes")
SPLIT_COLUMNS = ("split", "set", "subset", "fold", "partition", "data set", "dataset")
SUFFIXES = ("", ".jpg", ".jpeg", ".png", ".webp", ".JPG", ".JPEG", ".PNG")
PATTERN_PARTS = {"*": ".*?", "?": ".", "#": "[0-9]+", "{label}": "(?P<part>.+?)", "{group}": "(?P<part>.+?)"}


@dataclass(frozen=True)
class Wishes:
    """What a recipe says about reading a dataset; docs/recipes.md explains the members."""

    class_level: int | None = None
    name_encoding: str | None = None
    ignore: tuple[str, ...] = ()
    group: str | None = None
    labels: str | None = None

    @classmethod
    def read(cls, class_level: int, name_encoding: str, ignore: tuple[str, ...], group: str, labels: str) -> Wishes:
        """Return a recipe's members as wishes: 0, an empty text and `auto` say nothing."""
        encoding, source = (None if value in ("", "auto") else value for value in (name_encoding, labels))
        return cls(class_level or None, encoding, ignore, group or None, source)

    @property
    def label_pattern(self) -> str | None:
        return self.labels if self.labels and "{label}" in self.labels else None


class Row(NamedTuple):
    """One line of a file of labels: the image's file as written there, its label, its split if there is one."""

    file: str
    label: str
    split: str | None


@dataclass(frozen=True)
class LabelTable:
    """A file of labels, or what is wrong with it: `multi_label` or `labels_not_recognised`, and the place in words."""

    rows: Sequence[Row] = ()
    problem: str | None = None
    remark: str = ""


@lru_cache(maxsize=16)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern for file names; `*` is any text, `#` digits, `{label}` or `{group}` the part to take."""
    pieces = re.split(r"(\{label\}|\{group\}|[*?#])", pattern)
    return re.compile("".join(PATTERN_PARTS.get(piece, re.escape(piece)) for piece in pieces), re.DOTALL)


def read_part(pattern: str, name: str) -> str | None:
    """Return the part of a file's name that a pattern takes, the shortest that fits, or None if it does not match."""
    found = compile_pattern(pattern).fullmatch(name.rpartition("/")[2])
    return found["part"].strip() or None if found else None


def find_label_files(names: Iterable[str]) -> list[str]:
    """Return the files of labels among names: those of the first kind in LABEL_FILES that is there."""
    found = [name for name in names if name.rpartition("/")[2].lower() in LABEL_FILES]
    kinds = [kind for kind in LABEL_FILES if any(name.lower().endswith(kind) for name in found)]
    return sorted(name for name in found if name.rpartition("/")[2].lower() == kinds[0])


def read_label_file(name: str, body: bytes) -> LabelTable:
    """Read a file of labels: JSON lines by its suffix, else a table with commas, semicolons or tabs."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = body.decode("cp1252", errors="replace")
    try:
        lines = _read_json_lines(text) if name.lower().endswith(".jsonl") else _read_table(text)
    except (ValueError, csv.Error) as error:
        return LabelTable(problem="labels_not_recognised", remark=f"it cannot be read ({error})")
    if len(lines) < 2:
        return LabelTable(problem="labels_not_recognised", remark="it has no lines")
    return _read_lines(lines[0], [line for line in lines[1:] if any(line)])


def _read_json_lines(text: str) -> list[list[str]]:
    members = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not all(isinstance(each, dict) for each in members):
        raise ValueError("a line is not an object")
    names = sorted({name for each in members for name in each})
    rows = [["" if each.get(name) is None else _write_cell(each[name]) for name in names] for each in members]
    return [names, *rows]


def _write_cell(value: object) -> str:
    return "|".join(map(str, value)) if isinstance(value, list) else str(value)


def _read_table(text: str) -> list[list[str]]:
    """Return the cells, with a header of our own if the first line is an image already."""
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    lines = [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)]
    lines = [line for line in lines if line]
    if lines and re.search(r"\.(jpe?g|png|webp|gif|bmp|tiff?)$", lines[0][0], re.IGNORECASE):
        lines.insert(0, ["file_name", "label", "split"][: len(lines[0])])
    return lines


def _read_lines(header: Sequence[str], lines: Sequence[Sequence[str]]) -> LabelTable:
    names = [name.strip().lower() for name in header]
    file = _find_column(names, FILE_COLUMNS, 0)
    split = _find_column(names, SPLIT_COLUMNS, None)
    label = _find_column(names, LABEL_COLUMNS, None)
    others = [at for at in range(len(names)) if at not in (file, split)]
    padded = [[*line, *[""] * (len(names) - len(line))] for line in lines]
    if (
        label is None
        and len(others) > 1
        and all(line[at] in ("0", "1", "0.0", "1.0") for line in padded for at in others)
    ):
        return _read_indicators(header, padded, file, split, others)
    if label is None and len(others) == 1:
        label = others[0]
    if file is None or label is None or label == file:
        return LabelTable(problem="labels_not_recognised", remark=f"its columns are {', '.join(map(repr, header[:8]))}")
    rows = [_make_row(line[file], line[label], line[split] if split is not None else "") for line in padded]
    return _check_rows([row for row in rows if row.label and row.file])


def _find_column(names: Sequence[str], wanted: Sequence[str], otherwise: int | None) -> int | None:
    return next((names.index(name) for name in wanted if name in names), otherwise)


def _make_row(file: str, label: str, split: str) -> Row:
    name = unicodedata.normalize("NFC", file.replace("\\", "/"))
    return Row(
        name.removeprefix("./"), unicodedata.normalize("NFC", label), SPLIT_WORDS.get(split.lower(), split) or None
    )


def _read_indicators(
    header: Sequence[str], lines: Sequence[Sequence[str]], file: int | None, split: int | None, labels: Sequence[int]
) -> LabelTable:
    """Read a table with one column of 0 and 1 for each class."""
    rows = []
    for line in lines:
        chosen = [header[at].strip() for at in labels if float(line[at])]
        if len(chosen) > 1:
            return LabelTable(problem="multi_label", remark=f"{line[file or 0]!r} has the labels {_list(chosen)}")
        rows += [_make_row(line[file or 0], label, line[split] if split is not None else "") for label in chosen]
    return _check_rows(rows)


def _check_rows(rows: Sequence[Row]) -> LabelTable:
    """Refuse several labels for one image: in one cell, or on several lines."""
    labels = {row.label for row in rows}
    seen: dict[str, str] = {}
    for row in rows:
        if seen.setdefault(row.file, row.label) != row.label:
            return LabelTable(
                problem="multi_label", remark=f"{row.file!r} has the labels {_list([seen[row.file], row.label])}"
            )
        parts = _split_label(row.label, labels)
        if len(parts) > 1:
            return LabelTable(problem="multi_label", remark=f"{row.file!r} has the labels {_list(parts)}")
    return LabelTable(rows) if rows else LabelTable(problem="labels_not_recognised", remark="no line has a label")


def _split_label(label: str, labels: Collection[str]) -> list[str]:
    """Return the labels in a cell: lists are separated by | or ;, and by commas or spaces if each part is a label."""
    for separator in "|;":
        if separator in label:
            return [part.strip() for part in label.split(separator) if part.strip()]
    for separator in ", ":
        parts = [part.strip(" []'\"") for part in label.split(separator)]
        if len(parts) > 1 and all(part in labels for part in parts):
            return parts
    return [label]


def _list(names: Iterable[str]) -> str:
    return " and ".join(map(repr, names))


def place_images(
    names: Collection[str], tables: Mapping[str, LabelTable], bases: Mapping[tuple[str, ...], str]
) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return the split and label of each image that the tables name, and the rows' files that are not there."""
    known, by_file = set(names), _index(names)
    placed: dict[str, tuple[str, str]] = {}
    missing = []
    for path, table in tables.items():
        folder = path.rpartition("/")[0]
        for row in table.rows:
            paths = (each for each in _list_paths(folder, row.file) if each in known)
            name = next(paths, by_file.get(row.file))
            if name is None:
                missing.append(row.file)
            elif (split := row.split or find_split(name, bases)) in ("train", "valid", "test"):
                placed[name] = (split, row.label)
    return placed, missing


def _list_paths(folder: str, file: str) -> Iterator[str]:
    for suffix in SUFFIXES:
        yield f"{folder}/{file}{suffix}" if folder else f"{file}{suffix}"
        yield f"{file}{suffix}"


def _index(names: Iterable[str]) -> dict[str, str]:
    """Return the images by file name, with and without suffix, those that occur once."""
    names = list(names)
    files = {name: name.rpartition("/")[2] for name in names}
    counts = Counter(files.values())
    stems = Counter(file.rpartition(".")[0] for file in files.values())
    single = {file.rpartition(".")[0]: name for name, file in files.items() if stems[file.rpartition(".")[0]] == 1}
    return single | {file: name for name, file in files.items() if counts[file] == 1}


def find_split(name: str, bases: Mapping[tuple[str, ...], str]) -> str:
    """Return the split of the layout in which a file lies, else the one that a folder of its path names, else train."""
    folder = tuple(part for part in name.split("/")[:-1] if part and part != ".")
    read = [bases[folder[:depth]] for depth in range(len(folder) + 1) if folder[:depth] in bases]
    return (read or [SPLIT_WORDS[part.lower()] for part in folder if part.lower() in SPLIT_WORDS] or ["train"])[0]


def choose_form(wishes: Wishes, train_classes: int, has_label_files: bool) -> str:
    """Choose where labels come from: `pattern`, `file`, or `folders`, unless those hold no two classes."""
    if wishes.label_pattern:
        return "pattern"
    if wishes.labels in ("file", "folders"):
        return wishes.labels
    return "file" if has_label_files and train_classes < 2 else "folders"
