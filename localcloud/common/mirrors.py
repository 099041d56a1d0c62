"""Mirror a running job's folder to S3: each look uploads the files that are new or have changed.

A small file is uploaded at every look. A large file is uploaded again after `LARGE_INTERVAL` seconds at the earliest,
because a checkpoint of a hundred megabytes after every epoch would slow down the training.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from localcloud.common.clock import Clock
from localcloud.common.transfers import TransferError, split_uri, upload

log = logging.getLogger(__name__)
LARGE_SIZE = 4 << 20
LARGE_INTERVAL = 20.0
State = tuple[int, int]  # size in bytes, time of modification in nanoseconds


class Mirror:
    """Uploads the files of `folder`, which may not exist yet, to `uri` (an S3 prefix). Used by one thread at a time."""

    unfinished: tuple[str, ...] = (".tmp",)  # file endings; smdebug renames a file once it is complete

    def __init__(self, s3: Any, uri: str, folder: Path, clock: Clock) -> None:
        self._s3 = s3
        self._uri = uri
        self._folder = folder
        self._clock = clock
        self._known: dict[str, State] = {}
        self._uploaded_at: dict[str, float] = {}

    def sync(self, *, all_files: bool = False) -> None:
        """Upload the changed files; large ones only after their interval, or with `all_files`."""
        for name, state in self._look().items():
            if self._known.get(name) != state and (all_files or self._is_due(name, state)):
                self._upload(name, state)

    def _look(self, below: Path | None = None) -> dict[str, State]:
        found, root = {}, below or self._folder
        for folder, _, names in os.walk(root):
            for path in (Path(folder, name) for name in names if not name.endswith(self.unfinished)):
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue  # renamed or deleted since it was listed
                found[path.relative_to(root).as_posix()] = (status.st_size, status.st_mtime_ns)
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
            log.warning("%s is not mirrored to %s now: %s", name, self._uri, error)
            return
        self._known[name] = state
        self._uploaded_at[name] = self._clock.now().timestamp()

    def _locate(self, name: str) -> tuple[str, str]:
        bucket, prefix = split_uri(self._uri)
        return bucket, f"{prefix.rstrip('/')}/{name}".lstrip("/")
