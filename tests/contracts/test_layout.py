"""Pre-flight and the training program read a zip alike: the contract between two units that share no code."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.datasets.kinds import KINDS
from tests.support.datasets.reading import ROOT, read_as_preflight, read_as_training
from tests.support.hostile.zips import ZIPS
from tests.support.layouts import LAYOUTS, pack, picture

COPIES = [ROOT / "chalicelib" / "datasets" / "reading", ROOT / "training" / "images" / "reading"]
LITTER_WORDS = {"ignored_files", "small_class", "split_cut_from_train", "class_missing_from_split"}
REFUSED_NAMES = {"name_escapes", "name_has_control_characters", "duplicate_names", "name_has_backslash"}


def find_pythons() -> list[str]:
    """Return this Python and the others of 3.11 to 3.13 that are installed."""
    found = [sys.executable]
    for version in ("3.11", "3.12", "3.13"):
        places = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}*/bin/python")]
        found += [str(place) for place in places if place and works(str(place))][:1]
    return found


def works(python: str) -> bool:
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", ["__init__.py", "folders.py", "labels.py", "names.py"])
def test_the_rules_are_the_same_text(name: str) -> None:
    """The two units are shipped apart, and each has its copy of the rules: a change to one is a change to both."""
    one, two = ((folder / name).read_text(encoding="utf-8") for folder in COPIES)
    assert one == two


@pytest.mark.parametrize("name", LAYOUTS)
def test_good_zips_are_read_alike(name: str, tmp_path: Path) -> None:
    """Both find the same classes and the same numbers of images in every served layout."""
    path = write(tmp_path, LAYOUTS[name].build())
    assert read_as_training(path, {}) == read_as_preflight(path, {}).splits == LAYOUTS[name].counts


@pytest.mark.parametrize("name", [name for name, case in ZIPS.items() if zipfile.is_zipfile(io.BytesIO(case.build()))])
def test_hostile_zips_are_read_alike(name: str, tmp_path: Path) -> None:
    """Where a bad zip can be read at all, both see the same in it, but for names that pre-flight refuses."""
    path = write(tmp_path, ZIPS[name].build())
    report = read_as_preflight(path, {})
    if report.images and not REFUSED_NAMES & {problem.code for problem in report.problems}:
        assert read_as_training(path, {}) == report.splits


@pytest.mark.parametrize("name", KINDS)
def test_what_people_pack_is_read_right(name: str, tmp_path: Path) -> None:
    """Of each kind of dataset both see the right images; pre-flight has these problems, and warns of what it drops."""
    kind = KINDS[name]
    path = write(tmp_path, kind.build())
    report = read_as_preflight(path, kind.wishes)
    assert report.splits == kind.counts, report.problems
    assert read_as_training(path, kind.wishes) == kind.counts
    assert {problem.code for problem in report.problems} == kind.problems
    said = {warning.code for warning in report.warnings}
    assert kind.warnings <= said
    assert said - kind.warnings <= LITTER_WORDS | ({"contradicting_labels"} if kind.problems else set())
    text = " ".join(each.message for each in (*report.problems, *report.warnings))
    assert all(words in text for words in kind.says), text


def test_every_python_reads_alike(tmp_path: Path) -> None:
    """Both readings of every kind are the same under each Python that is installed, 3.11 to 3.13."""
    for number, kind in enumerate(KINDS.values()):
        write(tmp_path, kind.build(), f"{number:03d}", kind.wishes)
    seen = {python: json.loads(run_script(python, tmp_path)) for python in find_pythons()}
    first = seen[sys.executable]
    assert all(preflight == trained for preflight, trained, *_ in first.values())
    assert {python for python, each in seen.items() if each != first} == set()


def run_script(python: str, folder: Path) -> bytes:
    command = [python, "-m", "tests.support.datasets.reading", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout


def write(folder: Path, body: bytes, name: str = "dataset", wishes: Mapping[str, Any] | None = None) -> Path:
    (folder / f"{name}.json").write_text(json.dumps(wishes or {}), encoding="utf-8")
    path = folder / f"{name}.zip"
    path.write_bytes(body)
    return path


PART = st.sampled_from(
    [
        "train",
        "TRAIN",
        "valid",
        "val",
        "test",
        "cat",
        "dog",
        "pets",
        ".hidden",
        "__MACOSX",
        "a.b",
        ".",
        "images",
        "train_set",
        "test_set",
        "unsup",
        "tmp",
        "@eaDir",
    ]
)
FILE = st.sampled_from(["1.png", "2.JPG", "3.jpeg", "4.webp", "x.txt", ".png", "Thumbs.db", "5.png.txt", "png", "7"])
NAME = st.tuples(st.lists(PART, max_size=5), FILE).map(lambda name: "/".join([*name[0], name[1]]))


@settings(max_examples=300, deadline=None)
@given(st.sets(NAME, max_size=30), st.sampled_from([None, 1, 2, 3]))
def test_any_layout_is_read_alike(names: set[str], level: int | None) -> None:
    """Whatever the folders are called and however they are nested, both read the same."""
    path = write(FOLDER, pack({name: picture() for name in sorted(names)}))
    given = {} if level is None else {"class_level": level}
    assert read_as_training(path, given) == read_as_preflight(path, given).splits


@pytest.fixture(autouse=True, scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> None:
    global FOLDER
    FOLDER = tmp_path_factory.mktemp("any")
