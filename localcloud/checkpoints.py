"""The checkpoint folder's mirror in S3, as SageMaker keeps it: filled from S3 before a job starts, and then S3
follows the folder, deletions too, while the job runs and once more at its end.

Small files (metrics) follow at every look; a large one at most every `LARGE_INTERVAL` seconds, for a checkpoint of a
hundred megabytes after every epoch would take the machine from the training. Only keys that the mirror itself has
seen in the folder are ever deleted, so jobs that share a prefix leave each other's files alone.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from localcloud.clock import Clock
from localcloud.transfers import FAULTS, TransferError, download_prefix, split_uri, upload

log = logging.getLogger(__name__)
LARGE_SIZE = 4 << 20
LARGE_INTERVAL = 20.0
State = tuple[int, int]  # size in bytes, time of modification in nanoseconds


class CheckpointMirror:
    """Mirrors `folder` to `uri` (an S3 prefix). Used by one thread at a time."""

    def __init__(self, s3: Any, uri: str, folder: Path, clock: Clock) -> None:
        self._s3 = s3
        self._uri = uri
        self._folder = folder
        self._clock = clock
        self._known: dict[str, State] = {}
        self._uploaded_at: dict[str, float] = {}

    def fill(self) -> None:
        """Download what S3 has, unless the folder is there already (a killed cloud left it, and it is newer)."""
        if self._folder.exists():
            return
        self._folder.mkdir(parents=True)
        download_prefix(self._s3, self._uri, self._folder)
        self._known = self._look()

    def sync(self, *, all_files: bool = False) -> None:
        """Make S3 equal to the folder; large files only when their interval has passed, or with `all_files`."""
        found = self._look()
        for name, state in found.items():
            if self._known.get(name) != state and (all_files or self._is_due(name, state)):
                self._upload(name, state)
        for name in [name for name in self._known if name not in found]:
            self._delete(name)

    def _look(self) -> dict[str, State]:
        found = {}
        for path in self._folder.rglob("*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # renamed or deleted since it was listed
            if path.is_file():
                found[path.relative_to(self._folder).as_posix()] = (status.st_size, status.st_mtime_ns)
        return found

    def _is_due(self, name: str, state: State) -> bool:
        last = self._uploaded_at.get(name)
        return state[0] < LARGE_SIZE or last is None or self._clock.now().timestamp() - last >= LARGE_INTERVAL

    def _upload(self, name: str, state: State) -> None:
        bucket, key = self._locate(name)
        try:
            upload(self._s3, self._folder / name, bucket, key)
        except FileNotFoundError:
            return
        except TransferError as error:
            log.warning("checkpoint %s is not mirrored now: %s", name, error)
            return
        self._known[name] = state
        self._uploaded_at[name] = self._clock.now().timestamp()

    def _delete(self, name: str) -> None:
        bucket, key = self._locate(name)
        try:
            self._s3.delete_object(Bucket=bucket, Key=key)
        except FAULTS as error:
            log.warning("checkpoint %s is not deleted in S3 now: %s", name, error)
            return
        self._known.pop(name)

    def _locate(self, name: str) -> tuple[str, str]:
        bucket, prefix = split_uri(self._uri)
        return bucket, f"{prefix.rstrip('/')}/{name}".lstrip("/")
