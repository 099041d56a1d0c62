"""Pre-flight and the training program read a zip alike: the contract between two units that share no code."""

from __future__ import annotations

import importlib.util
import io
import sys
import zipfile
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.datasets.preflight import inspect_dataset
from tests.support.hostile.zips import ZIPS
from tests.support.layouts import LAYOUTS, Counts, pack, picture

TRAINING = Path(__file__).parents[2] / "training"


def load(path: Path) -> ModuleType:
    """A module of the flat folder, which no package holds and whose name others may have."""
    spec = importlib.util.spec_from_file_location(f"training_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


layout = load(TRAINING / "images" / "layout.py")


def read_as_training(body: bytes) -> Counts:
    """What the training program takes for images, by split and class."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        samples = layout.find_samples(archive.namelist())
    counted = Counter((sample.split, sample.label) for sample in samples)
    splits = [split for split in ("train", "valid", "test") if any(split == part for part, _ in counted)]
    return {
        split: {label: counted[part, label] for part, label in sorted(counted) if part == split} for split in splits
    }


def read_as_preflight(body: bytes) -> Counts:
    return inspect_dataset(io.BytesIO(body)).splits


@pytest.mark.parametrize("name", LAYOUTS)
def test_good_zips_are_read_alike(name: str) -> None:
    """Both find the same classes and the same numbers of images in every served layout."""
    body = LAYOUTS[name].build()
    assert read_as_training(body) == read_as_preflight(body) == LAYOUTS[name].counts


@pytest.mark.parametrize("name", [name for name, case in ZIPS.items() if zipfile.is_zipfile(io.BytesIO(case.build()))])
def test_hostile_zips_are_read_alike(name: str) -> None:
    """Where a bad zip can be read at all, both see the same in it, but for names that pre-flight refuses."""
    case = ZIPS[name]
    body = case.build()
    report = inspect_dataset(io.BytesIO(body), case.limits)
    if report.images and case.code not in {"name_escapes", "name_has_control_characters", "duplicate_names"}:
        assert read_as_training(body) == report.splits


PART = st.sampled_from(
    ["train", "TRAIN", "valid", "val", "test", "cat", "dog", "pets", ".hidden", "__MACOSX", "a.b", "."]
)
FILE = st.sampled_from(["1.png", "2.JPG", "3.jpeg", "4.webp", "x.txt", ".png", "Thumbs.db", "5.png.txt", "png"])
NAME = st.tuples(st.lists(PART, max_size=5), FILE).map(lambda name: "/".join([*name[0], name[1]]))


@settings(max_examples=300, deadline=None)
@given(st.sets(NAME, max_size=30))
def test_any_layout_is_read_alike(names: set[str]) -> None:
    """Whatever the folders are called and however they are nested, both read the same."""
    body = pack(
        {name: picture() for name in sorted(names) if name.lower().endswith((".jpg", ".jpeg", ".png", ".webp"))}
    )
    assert read_as_training(body) == read_as_preflight(body)
