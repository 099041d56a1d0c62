"""Test the programs' tarball, which a training job unpacks."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from infrastructure.packaging.source import PROJECT, NoProgram, name_source, pack_source, write_source


def write_program(folder: Path, train: str = "print('hello')") -> Path:
    for name, text in {
        "training/train.py": train,
        "training/images/data.py": "DATA = 1",
        "training/notes.txt": "no program",
        "training/__pycache__/train.pyc": "compiled",
        "inference/inference.py": "def model_fn(): ...",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def list_names(packed: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return archive.getnames()


def test_programs_alone_are_packed(tmp_path: Path) -> None:
    """It has training/ at the root with its folders, inference/*.py below inference/, and nothing else."""
    assert list_names(pack_source(write_program(tmp_path))) == ["images/data.py", "train.py", "inference/inference.py"]


def test_the_same_programs_give_the_same_bytes(tmp_path: Path) -> None:
    """Times, modes and folders do not matter, so a pinned URI stays valid."""
    first = write_program(tmp_path / "a")
    second = write_program(tmp_path / "b")
    os.utime(second / "training/train.py", (1, 1))
    (second / "training/train.py").chmod(0o600)
    assert pack_source(first) == pack_source(second)


def test_another_program_has_another_name(tmp_path: Path) -> None:
    """The name depends on the content."""
    names = {name_source(pack_source(write_program(tmp_path / text, text))) for text in ("one", "two")}
    assert len(names) == 2
    assert all(name.startswith("sourcedir-") and name.endswith(".tar.gz") for name in names)


def test_a_folder_without_a_program_is_refused(tmp_path: Path) -> None:
    """The message names the missing file."""
    with pytest.raises(NoProgram, match=r"train\.py"):
        write_source(tmp_path, tmp_path)


def test_the_command_prints_the_path(tmp_path: Path) -> None:
    """It prints the path when it is called as the local cloud and a deployment do."""
    command = [sys.executable, "-m", "infrastructure.packaging.source", "--to", str(tmp_path)]
    printed = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    assert "train.py" in list_names(Path(printed.strip()).read_bytes())
