"""Keep what Python compiled of a source archive, so that the next job with that archive does not compile it again.

    FOLDER/SHA256/    the `__pycache__` folders of the archive's tree

Every trial of a tuning job runs the same program, and compiling it takes a tenth of a second. Python uses compiled code
only for a source of the size and the time that it was compiled from, and an archive restores both. What a job compiled
belongs to that archive alone.
"""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)
KEPT = 4  # archives; a megabyte each
CACHE = "__pycache__"


class Bytecode:
    """The folder of compiled code. A disk that takes nothing more costs only time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def lend(self, digest: str, code: Path) -> None:
        """Copy what is kept of an archive beside its unpacked sources.

        A job may have added folders, by `pip install --target` for example: the next job must not find them there.
        """
        kept = self._folder / digest
        if digest and kept.is_dir():
            with suppress(OSError):
                kept.touch()
                for compiled in kept.rglob("*.pyc"):
                    lend_file(compiled, code / compiled.relative_to(kept))

    def keep(self, digest: str, code: Path) -> None:
        """Keep what a job compiled, unless its archive is known. The archives that were used last stay."""
        kept = self._folder / digest
        if not digest or kept.exists():
            return
        partial = code.with_name(f"compiled-{digest}")  # beside it, where a job may have a folder `compiled`
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for cache in [path for path in code.rglob(CACHE) if path.is_dir() and not path.is_symlink()]:
                shutil.copytree(cache, partial / cache.relative_to(code), symlinks=True)
            if partial.exists():
                partial.rename(kept)
            self._forget()
        except OSError as error:
            log.info("what was compiled is not kept: %s", error)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _forget(self) -> None:
        by_age = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in by_age[KEPT:]:
            shutil.rmtree(path, ignore_errors=True)


def lend_file(compiled: Path, place: Path) -> None:
    """Copy a compiled file to its place if its source is there."""
    source = place.parent.with_name(f"{place.name.partition('.')[0]}.py")
    if source.is_file() and not compiled.is_symlink():
        place.parent.mkdir(exist_ok=True)
        shutil.copy2(compiled, place)
