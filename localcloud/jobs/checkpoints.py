"""Mirror a job's checkpoint folder in S3, as SageMaker does.

The folder is filled from S3 before the job starts. Then S3 follows the folder, including deletions, while the job runs
and once more at its end. Jobs that share a prefix leave each other's files alone: a file that was downloaded is
uploaded, or deleted in S3, only when the job has changed or deleted it.

What the mirror knows is kept beside the folder, so that the cloud after a killed one knows it too. A folder appears
under its name once it is complete.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from localcloud.common.clock import Clock
from localcloud.common.durable import write_whole
from localcloud.common.mirrors import Mirror, State
from localcloud.common.transfers import FAULTS, download_prefix
from localcloud.jobs.directory import MEMORY

log = logging.getLogger(__name__)


class CheckpointMirror(Mirror):
    """Mirrors `folder` to `uri` (an S3 prefix). One thread at a time may use it."""

    unfinished = ()  # a program may name its files as it likes

    def __init__(self, s3: Any, uri: str, folder: Path, clock: Clock) -> None:
        super().__init__(s3, uri, folder, clock)
        self._memory = folder.with_name(f"{folder.name}{MEMORY}")
        self._kept: dict[str, State] = {}

    def fill(self) -> None:
        """Download what S3 has, unless the folder exists: then a killed cloud left it, and it is newer than S3."""
        if self._folder.exists():
            self._known = self._kept = self._recall()
            return
        partial = self._folder.with_name(f"{self._folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        download_prefix(self._s3, self._uri, partial, may_vanish=True)
        self._known = self._look(partial)
        self._remember()
        partial.rename(self._folder)

    def sync(self, *, all_files: bool = False) -> None:
        """Make S3 equal to the folder. Large files follow only after their interval, or with `all_files`."""
        super().sync(all_files=all_files)
        found = self._look()
        for name in [name for name in self._known if name not in found]:
            self._delete(name)
        self._remember()

    def _delete(self, name: str) -> None:
        bucket, key = self._locate(name)
        try:
            self._s3.delete_object(Bucket=bucket, Key=key)
        except FAULTS as error:
            log.warning("checkpoint %s is not deleted in S3 now: %s", name, error)
            return
        self._known.pop(name)

    def _remember(self) -> None:
        if self._known == self._kept:
            return
        write_whole(self._memory, json.dumps(self._known))
        self._kept = dict(self._known)

    def _recall(self) -> dict[str, State]:
        """Return what an earlier cloud's mirror knew; nothing where it kept nothing."""
        try:
            kept = json.loads(self._memory.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return {name: (size, changed) for name, (size, changed) in kept.items()}
