"""Remember the uploads in parts: after its process has ended, the same command finds how far it came and goes on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

KEPT_SECONDS = 23 * 3600  # the app keeps what has arrived for a day
HEAD_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Memory:
    """A folder with a small file for each upload that is not complete: its id at the app, and nothing secret."""

    folder: Path
    now: Callable[[], float] = time.time

    def recall(self, mark: str) -> str | None:
        """Return the id of the upload with this mark, if it has one that the app still keeps."""
        self._forget_old()
        try:
            return str(json.loads((self.folder / mark).read_text(encoding="utf-8"))["id"])
        except (OSError, ValueError, KeyError, TypeError):
            return None  # a file that cannot be read is none of ours

    def keep(self, mark: str, id: str, dataset: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / mark).write_text(json.dumps({"id": id, "dataset": dataset}), encoding="utf-8")

    def forget(self, mark: str) -> None:
        (self.folder / mark).unlink(missing_ok=True)

    def _forget_old(self) -> None:
        for path in self.folder.glob("*") if self.folder.is_dir() else ():
            if path.stat().st_mtime < self.now() - KEPT_SECONDS:
                path.unlink(missing_ok=True)


def find_memory(environ: Mapping[str, str]) -> Memory:
    """Return the memory in ~/.cache/whippet/uploads, or below XDG_CACHE_HOME."""
    base = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Memory(Path(base) / "whippet" / "uploads")


def mark_upload(url: str, dataset: str, content: str) -> str:
    """Return what tells one upload from another: where it goes, under which name, and what it is."""
    return digest([url, dataset, content])


def mark_file(path: Path) -> str:
    """Return what tells a file from another one, or from itself after a change: size, time, and a hash of its head."""
    told = path.stat()
    with path.open("rb") as file:
        head = hashlib.sha256(file.read(HEAD_BYTES)).hexdigest()
    return digest([str(told.st_size), str(told.st_mtime_ns), head])


def mark_folder(folder: Path, files: Iterable[Path]) -> str:
    """Return what tells a folder from another one: the names, sizes and times of the files that are sent."""
    told = ((path.relative_to(folder).as_posix(), path.stat()) for path in files)
    return digest(f"{name} {each.st_size} {each.st_mtime_ns}" for name, each in told)


def digest(parts: Iterable[str]) -> str:
    """Return 32 hex digits of some texts, in their order."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
