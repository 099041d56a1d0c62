"""Pack the tarball that SageMaker runs: `training/` with its folders at the root, `inference/*.py` below `inference/`.

Its bytes depend only on the files' contents (no times, owners or file modes), and its name on its bytes. So the same
program always has the same URI, and a run that has pinned a URI keeps its program.

    python -m infrastructure.packaging.source --to FOLDER      writes FOLDER/sourcedir-HASH.tar.gz and prints its path
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


class NoProgram(FileNotFoundError):
    """The folder contains no training program."""


def list_members(project: Path) -> Iterator[tuple[str, Path]]:
    """Yield (name in the archive, file) in the archive's order. Raises NoProgram if `training/train.py` is missing."""
    if not (project / "training" / "train.py").is_file():
        raise NoProgram(f"{project / 'training'} has no train.py, which is what a training job runs.")
    training = project / "training"
    for path in sorted(training.rglob("*.py")):
        yield path.relative_to(training).as_posix(), path
    for path in sorted((project / "inference").glob("*.py")):
        yield f"inference/{path.name}", path


def pack_source(project: Path) -> bytes:
    """Return the gzipped tarball of the project's programs."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, path in list_members(project):
            body = path.read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return packed.getvalue()


def name_source(packed: bytes) -> str:
    """Return `sourcedir-` + 16 hex digits of the content's SHA-256 + `.tar.gz`."""
    return f"sourcedir-{hashlib.sha256(packed).hexdigest()[:16]}.tar.gz"


def write_source(project: Path, folder: Path) -> Path:
    """Write the tarball under its name to a folder, which is created if needed; returns its path."""
    packed = pack_source(project)
    path = folder / name_source(packed)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed)
    return path


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Pack the training and inference programs for SageMaker.")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    print(write_source(PROJECT, parser.parse_args(arguments).to))


if __name__ == "__main__":
    main()
