"""Keep the local S3 on disk: a SQLite table of object versions, one of bucket settings, a file for each body.

    HOME/s3/objects.sqlite    version(bucket, key, version_id, record), setting(bucket, name, request)
    HOME/s3/bodies/ab/abcd…   a file for each version's body, written once, never changed, linked when S3 copies

A body is complete on disk before its row is committed, so a kill at any moment leaves either no version or a whole one.
A kill can leave a body without a row; `sweep` removes such files at the next start. Bodies and rows are forced to the
disk, so what was answered survives a power cut too. Tables that are found broken are set aside with all bodies.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.common.durable import ASIDE, make_private_folder, set_aside, sync_folder

CHUNK = 1 << 20
BROKEN = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
Record = dict[str, Any]


class MappedBody(mmap.mmap):
    """A body that is read from its file on demand: slices are bytes, iteration gives pieces of one MiB."""

    source: Body | None = None

    def __iter__(self) -> Iterator[bytes]:  # type: ignore[override]  # pieces for a socket, not single bytes
        for start in range(0, len(self), CHUNK):
            yield self[start : start + CHUNK]


@dataclass(frozen=True)
class Body:
    """A body on disk: its file, its size in bytes and the MD5 that S3 calls the etag."""

    path: Path
    size: int
    md5: str

    def open(self) -> MappedBody | bytes:
        """Map the file into memory. The map stays readable after the version is deleted."""
        if not self.size:
            return b""
        with self.path.open("rb") as file:
            mapped = MappedBody(file.fileno(), 0, access=mmap.ACCESS_READ)
        mapped.source = self
        return mapped


class Bodies:
    """The folder of bodies."""

    def __init__(self, folder: Path) -> None:
        self.folder = make_private_folder(folder)
        for number in range(256):
            (folder / f"{number:02x}").mkdir(exist_ok=True)
        sync_folder(folder)

    def write(self, pieces: Iterable[Any]) -> Body:
        """Write the pieces (anything with a buffer) into a new file. Raises OSError and leaves none on a full disk."""
        digest, size, path = hashlib.md5(usedforsecurity=False), 0, self._new_path()
        try:
            with path.open("wb") as file:
                for piece in pieces:
                    digest.update(piece)
                    file.write(piece)
                    size += len(piece)
                file.flush()
                os.fsync(file.fileno())  # of a new file, this keeps its name too on the file systems that matter
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Body(path, size, digest.hexdigest())

    def link(self, body: Body) -> Body:
        """Give a body a second name, without copying it where the file system has hard links."""
        path = self._new_path()
        try:
            os.link(body.path, path)
        except OSError:
            shutil.copyfile(body.path, path)
        sync_folder(path.parent)
        return Body(path, body.size, body.md5)

    def find(self, name: str, size: int, md5: str) -> Body:
        return Body(self._path(name), size, md5)

    def is_whole(self, name: str, size: int) -> bool:
        """Return whether a body has all its bytes. One that has not is set aside."""
        path = self._path(name)
        found = path.stat().st_size if path.exists() else None
        if found not in (None, size):
            set_aside(path, f"has {found} of {size} bytes")
        return found == size

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._path(name).unlink(missing_ok=True)

    def sweep(self, known: set[str]) -> int:
        """Remove the files that no version names and return how many there were."""
        lost = [path for path in self.folder.glob("??/*") if path.name not in known and ASIDE not in path.name]
        for path in lost:
            path.unlink(missing_ok=True)
        return len(lost)

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name

    def _new_path(self) -> Path:
        return self._path(secrets.token_hex(16))


class Versions:
    """The tables of object versions and bucket settings. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.executescript(
            """
            pragma journal_mode = wal;
            pragma synchronous = full;
            create table if not exists version (
                bucket text, key text, version_id text, record text, primary key (bucket, key, version_id));
            create table if not exists setting (
                bucket text, name text, request text, primary key (bucket, name));
            """
        )

    def find_fault(self) -> str | None:
        """Return what SQLite finds broken in the file, or None."""
        (told,) = self._database.execute("pragma quick_check(1)").fetchone()
        return None if told == "ok" else str(told)

    def close(self) -> None:
        self._database.close()

    def of_key(self, bucket: str, key: str) -> list[Record]:
        """Return the versions of one key, oldest first."""
        rows = self._select("select record from version where bucket = ? and key = ? order by rowid", bucket, key)
        return [json.loads(record) for (record,) in rows]

    def all(self) -> Iterator[tuple[str, str, Record]]:
        """Yield every version as (bucket, key, record), oldest first."""
        for bucket, key, record in self._select("select bucket, key, record from version order by rowid"):
            yield bucket, key, json.loads(record)

    def replace(self, bucket: str, key: str, old: list[Record], new: list[Record]) -> None:
        """Change the rows of one key from `old` to `new` in one transaction, writing only what differs."""
        before = {record["version_id"]: record for record in old}
        after = {record["version_id"]: record for record in new}
        with self._lock, self._database as database:
            for version_id in before.keys() - after.keys():
                database.execute(
                    "delete from version where bucket = ? and key = ? and version_id = ?", (bucket, key, version_id)
                )
            for version_id, record in after.items():
                if before.get(version_id) != record:
                    database.execute(
                        "insert into version values (?, ?, ?, ?) on conflict do update set record = excluded.record",
                        (bucket, key, version_id, json.dumps(record)),
                    )

    def settings(self) -> list[tuple[str, str, Record]]:
        """List every kept bucket request as (bucket, name, request), in the order of their first arrival."""
        rows = self._select("select bucket, name, request from setting order by rowid")
        return [(bucket, name, json.loads(request)) for bucket, name, request in rows]

    def keep_setting(self, bucket: str, name: str, request: Record) -> None:
        with self._lock, self._database as database:
            database.execute(
                "insert into setting values (?, ?, ?) on conflict do update set request = excluded.request",
                (bucket, name, json.dumps(request)),
            )

    def drop_setting(self, bucket: str, name: str) -> None:
        """Delete a setting. The empty name, which stands for the bucket's creation, deletes all of its settings."""
        with self._lock, self._database as database:
            database.execute("delete from setting where bucket = ? and (name = ? or ? = '')", (bucket, name, name))

    def _select(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._database.execute(query, values).fetchall()


def open_tables(home: Path) -> Versions:
    """Open the tables of a folder. What is broken is set aside with the bodies, which nothing else can name."""
    path, bodies = home / "objects.sqlite", home / "bodies"
    if path.exists() and not path.stat().st_size and any(bodies.glob("??/*")):
        _set_all_aside(home, "is empty, and there are objects")
    try:
        versions = Versions(path)
        fault = versions.find_fault()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF not in BROKEN:  # such as a full disk: another start may find it whole
            raise
        fault = str(error)
    else:
        if fault is None:
            return versions
        versions.close()
    _set_all_aside(home, f"is broken ({fault})")
    return Versions(path)


def _set_all_aside(home: Path, reason: str) -> None:
    set_aside(home / "objects.sqlite", reason)
    for name in ("objects.sqlite-wal", "objects.sqlite-shm", "bodies"):
        if (home / name).exists():
            set_aside(home / name, f"belongs to tables that {reason.partition(' (')[0].replace('is ', 'are ')}")
