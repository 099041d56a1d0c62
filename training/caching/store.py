"""Keep arrays in a folder by their keys, for every job of this machine.

An array's file is written once under another name, synchronised and renamed. Its name holds the SHA-256 of its bytes,
so a file that was cut or changed is noticed when it is read, and removed. Who builds an array holds a lock that the
system releases if the process dies. Space is limited: the array that was not used for longest goes first. Nothing here
may fail a training: where the folder cannot be used, arrays are computed and not kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

MOST_BYTES = 10 * 2**30
SHARE_OF_DISK = 0.1
SPAN = 2**30  # the locks are bytes of one file, each key's at a place of its own


class Store:
    """The arrays of one folder. `hits` counts arrays that were read, `made` those that were kept."""

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.limit = limit if limit is not None else choose_limit(folder)
        self.locks = os.open(folder / "locks", os.O_RDWR | os.O_CREAT, 0o600)
        self.hits = self.made = 0

    def read(self, key: str) -> Array | None:
        """Return the array of a key as a read-only memory map, or None. A file that is not what it was is removed."""
        for path in self.folder.glob(f"{key}-*.npy"):
            with contextlib.suppress(OSError, ValueError):
                if digest(path.read_bytes()) == path.stem.rpartition("-")[2]:
                    os.utime(path)
                    self.hits += 1
                    return np.load(path, mmap_mode="r", allow_pickle=False)
            path.unlink(missing_ok=True)
        return None

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Hold the right to build a key's array, if no other process holds it; it is released however this one ends."""
        place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % SPAN
        try:
            fcntl.lockf(self.locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self.locks, fcntl.LOCK_UN, 1, place)

    def write(self, key: str, array: Array) -> bool:
        """Keep an array, for the holder of its claim. Return False where there is no space or the folder fails."""
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        data = buffer.getvalue()
        half_written = self.folder / f"{key}.part"
        try:
            if not self.make_room(len(data)):
                return False
            write_durably(half_written, data)
            half_written.rename(self.folder / f"{key}-{digest(data)}.npy")
            self.made += 1
        except OSError:
            half_written.unlink(missing_ok=True)
            return False
        return True

    def make_room(self, size: int) -> bool:
        """Remove the arrays that were not used for longest until this many bytes fit. Return whether they do."""
        if size > self.limit:
            return False
        files = sorted(((path, path.stat()) for path in self.folder.glob("*.npy")), key=lambda each: each[1].st_mtime)
        used = sum(about.st_size for _, about in files)
        for path, about in files:
            if used + size <= self.limit:
                break
            path.unlink(missing_ok=True)
            used -= about.st_size
        return True


def choose_limit(folder: Path) -> int:
    """Return how many bytes a store may take: 10 GB, or a tenth of what is free where that is less."""
    return min(MOST_BYTES, int(shutil.disk_usage(folder).free * SHARE_OF_DISK))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def write_durably(path: Path, data: bytes) -> None:
    """Write a file to the disk. Its space is reserved first, so that a full disk is noticed before it is written."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, len(data))
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_store(folder: Path | None) -> Store | None:
    """Return the store in a folder; None without a folder, or where it cannot be made."""
    try:
        return Store(folder) if folder else None
    except OSError:
        return None
