"""Tests of the artifact: it is replaced atomically, and keeps only what serves the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from job.artifact import copy_code, write_manifest, write_model
from torch import nn

from tests.training.tiny import ROOT


def make_network(value: float) -> nn.Module:
    network = nn.Linear(2, 2)
    nn.init.constant_(network.weight, value)
    return network


def read_value(folder: Path) -> float:
    return float(torch.load(folder / "model.pth", weights_only=True)["weight"][0, 0])


def test_writing_that_fails_leaves_the_model_that_was_there(tmp_path: Path) -> None:
    """Neither weights nor manifest are replaced until both are written: the old pair stays whole."""
    write_model(tmp_path, make_network(1.0), {"epoch": 1}, ROOT / "training")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_model(tmp_path, make_network(2.0), {"epoch": float("nan")}, ROOT / "training")
    assert read_value(tmp_path) == 1.0
    assert json.loads((tmp_path / "manifest.json").read_text())["epoch"] == 1


def test_a_later_model_replaces_the_earlier_one(tmp_path: Path) -> None:
    """Nothing but the newest weights, their manifest and the code is left, and a manifest can be replaced alone."""
    for epoch in (1, 2):
        write_model(tmp_path, make_network(float(epoch)), {"epoch": epoch}, ROOT / "training")
    write_manifest(tmp_path, {"epoch": 2, "warnings": []})
    assert {path.name for path in tmp_path.iterdir()} == {"model.pth", "manifest.json", "code"}
    assert read_value(tmp_path) == 2.0
    assert json.loads((tmp_path / "manifest.json").read_text())["warnings"] == []


def test_code_that_is_in_place_is_not_touched(tmp_path: Path) -> None:
    """While a model is in place its code is never gone for a moment; a damaged or foreign file is replaced."""
    source, target = ROOT / "inference", tmp_path / "code"
    copy_code(source, target)
    before = {path.name: path.stat().st_ino for path in target.iterdir()}
    copy_code(source, target)
    assert {path.name: path.stat().st_ino for path in target.iterdir()} == before
    (target / "inference.py").write_text("half")
    (target / "old.py").write_text("")
    copy_code(source, target)
    assert (target / "inference.py").read_text() == (source / "inference.py").read_text()
    assert not (target / "old.py").exists()
