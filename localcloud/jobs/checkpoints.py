"""Mirror a job's checkpoint folder in S3, as SageMaker does.

The folder is filled from S3 before the job starts. Then S3 follows the folder, including deletions, while the job runs
and once more at its end. Only keys that the mirror itself has seen in the folder are ever deleted, so jobs that share a
prefix leave each other's files alone.
"""

from __future__ import annotations

import logging

from localcloud.common.mirrors import Mirror
from localcloud.common.transfers import FAULTS, download_prefix

log = logging.getLogger(__name__)


class CheckpointMirror(Mirror):
    """Mirrors `folder` to `uri` (an S3 prefix). One thread at a time may use it."""

    unfinished = ()  # a program may name its files as it likes

    def fill(self) -> None:
        """Download what S3 has, unless the folder exists: then a killed cloud left it, and it is newer than S3."""
        if self._folder.exists():
            return
        self._folder.mkdir(parents=True)
        download_prefix(self._s3, self._uri, self._folder)
        self._known = self._look()

    def sync(self, *, all_files: bool = False) -> None:
        """Make S3 equal to the folder. Large files follow only after their interval, or with `all_files`."""
        super().sync(all_files=all_files)
        found = self._look()
        for name in [name for name in self._known if name not in found]:
            self._delete(name)

    def _delete(self, name: str) -> None:
        bucket, key = self._locate(name)
        try:
            self._s3.delete_object(Bucket=bucket, Key=key)
        except FAULTS as error:
            log.warning("checkpoint %s is not deleted in S3 now: %s", name, error)
            return
        self._known.pop(name)
