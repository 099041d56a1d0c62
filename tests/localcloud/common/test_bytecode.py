"""Test that code which one job compiled serves the next with the same archive, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from localcloud.common.bytecode import CACHE, KEPT, Bytecode

PROGRAM = "import sys, inner.helper; print(inner.helper.__file__, inner.helper.fail.__code__.co_filename)"


def unpack(folder: Path, text: str = "") -> Path:
    """Write a program's sources as an archive does: with the archive's times."""
    (folder / "inner").mkdir(parents=True)
    for name, content in {"train.py": PROGRAM, "inner/helper.py": f"def fail():\n    raise ValueError\n{text}"}.items():
        (folder / name).write_text(content)
        os.utime(folder / name, (1_000_000_000, 1_000_000_000))
    return folder


def run(code: Path) -> list[str]:
    """Run the program; return what it says, and which compiled files Python has written."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    asked = [sys.executable, "-v", "train.py"]
    ran = subprocess.run(asked, cwd=code, env=environment, capture_output=True, text=True, check=True)
    written = [line for line in ran.stderr.splitlines() if line.startswith("# created") and str(code) in line]
    return [*ran.stdout.split(), *written]


def test_the_next_job_compiles_nothing(tmp_path: Path) -> None:
    """Python takes what the first job compiled, and names the second job's own files in a traceback."""
    kept, first, second = Bytecode(tmp_path / "kept"), unpack(tmp_path / "1/code"), unpack(tmp_path / "2/code")
    assert len(run(first)) == 3
    kept.keep("a", first)
    kept.lend("a", second)
    own = str(second / "inner" / "helper.py")
    assert run(second) == [own, own]


@pytest.mark.parametrize("digest", ["b", ""])
def test_another_archive_gets_nothing(tmp_path: Path, digest: str) -> None:
    """Sources of the same size and time may differ; a job without an archive has no digest."""
    kept, first, second = Bytecode(tmp_path / "kept"), unpack(tmp_path / "1/code"), unpack(tmp_path / "2/code")
    run(first)
    kept.keep(digest and "a", first)
    kept.lend(digest, second)
    assert not list(second.rglob(CACHE))


def test_what_a_job_added_to_its_code_stays_its_own(tmp_path: Path) -> None:
    """The next job finds no folder, file or link that its archive does not hold: pip would take it for installed."""
    kept, first, second = Bytecode(tmp_path / "kept"), unpack(tmp_path / "1/code"), unpack(tmp_path / "2/code")
    run(first)
    (first / "vendor" / "package" / CACHE).mkdir(parents=True)
    (first / "vendor" / "package" / CACHE / "module.cpython-311.pyc").write_bytes(b"of this job")
    (first / "inner" / CACHE / "made.cpython-311.pyc").write_bytes(b"of this job")
    (first / "inner" / CACHE / "link").symlink_to(tmp_path)
    (tmp_path / "1" / "compiled").mkdir()
    kept.keep("a", first)
    assert (tmp_path / "1" / "compiled").is_dir()
    kept.lend("a", second)
    assert sorted(path.name for path in second.iterdir()) == ["inner", "train.py"]
    assert sorted(path.name.partition(".")[0] for path in second.rglob(f"{CACHE}/*")) == ["helper"]


def test_few_archives_are_kept_and_the_first_job_of_each_counts(tmp_path: Path) -> None:
    """The archives that were used last stay; what a later job leaves changes nothing."""
    kept, code = Bytecode(tmp_path / "kept"), unpack(tmp_path / "code")
    run(code)
    for number in range(KEPT + 1):
        kept.keep(str(number), code)
        os.utime(tmp_path / "kept" / str(number), (number + 1, number + 1))
        kept.lend("0", tmp_path / "other")
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["0", "2", "3", "4"]
    (code / "inner" / CACHE / "more.pyc").write_bytes(b"")
    kept.keep("4", code)
    assert not list((tmp_path / "kept").rglob("more.pyc"))


def test_a_program_that_left_nothing_and_a_full_disk_do_no_harm(tmp_path: Path) -> None:
    """A job that ended before Python compiled something keeps nothing; where nothing can be written, jobs go on."""
    code = unpack(tmp_path / "code")
    Bytecode(tmp_path / "kept").keep("a", code)
    assert not list((tmp_path / "kept").iterdir())
    (tmp_path / "file").write_text("")
    run(code)
    Bytecode(tmp_path / "file").keep("a", code)
    Bytecode(tmp_path / "file").lend("a", code)
    assert not list(tmp_path.glob("compiled*"))
