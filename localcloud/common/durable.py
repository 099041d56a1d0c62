"""Write state files so that each is whole or absent, readable by their owner only, and set aside those that are not.

A file is written beside its place, forced to the disk, and renamed. So a reader, a kill or a power cut meets the old
file or the new one, and a full disk raises before anybody is told that the file was kept.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
PARTIAL, ASIDE = ".part-", ".broken-"
PRIVATE_FOLDER = 0o700


def make_private_folder(path: Path) -> Path:
    """Create a folder, or take one that exists, so that only its owner may look into it."""
    path.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    path.chmod(PRIVATE_FOLDER)
    return path


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace a file atomically and durably. Raises OSError, with the old file unchanged, where the disk is full."""
    sent = content.encode() if isinstance(content, str) else content
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}{PARTIAL}")  # only its owner may read it
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(sent)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)  # noqa: PTH105 - mkstemp gives a name
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108
        raise
    sync_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file durably. Raises OSError where the disk is full."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{line}\n")
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk: a renamed file is durable only with its folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_partial(folder: Path) -> None:
    """Remove what a kill left of unfinished writes in a folder."""
    for path in folder.glob(f".*{PARTIAL}*"):
        path.unlink(missing_ok=True)


def read_json(path: Path, check: Callable[[Any], Any] = lambda value: value) -> Any | None:
    """Return what `check` makes of a JSON file; None for one that is missing, or is broken and now set aside.

    `check` raises ValueError, KeyError or TypeError for a document that is not what it should be."""
    try:
        return check(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        reason = "is empty" if not path.stat().st_size else f"is cut or spoilt ({type(error).__name__}: {error})"
        set_aside(path, reason)
        return None


def set_aside(path: Path, reason: str) -> Path:
    """Rename a broken state file or folder, say so in the log and on standard error, and return its new path."""
    aside = path.with_name(f"{path.name}{ASIDE}{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
    path.replace(aside)
    message = f"{path} {reason}. It was set aside as {aside.name}; the local cloud goes on without it."
    log.error(message)
    print(f"localcloud: {message}", file=sys.stderr, flush=True)
    return aside
