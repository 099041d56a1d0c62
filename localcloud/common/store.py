"""Keep the local cloud's state: records by kind and name, a JSON file each, so that they survive a kill.

All records are held in memory too, which makes a describe a dictionary look-up. A record is on the disk before it is
in memory, so what was answered is kept, and a full disk refuses a change instead of forgetting it later. One process
owns a store's folder.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from localcloud.common.durable import make_private_folder, read_json, sweep_partial, write_whole

Record = dict[str, Any]


class Store:
    """Records under a folder: FOLDER/KIND/NAME.json. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._records: dict[str, dict[str, Record]] = {}
        for path in sorted(folder.glob("*/*.json")):
            if (read := read_json(path, _read_record)) is not None:
                self._records.setdefault(path.parent.name, {})[read[0]] = read[1]
        for kind in folder.glob("*/"):
            sweep_partial(kind)

    def get(self, kind: str, name: str) -> Record | None:
        """Return a copy of the record, or None."""
        with self._lock:
            record = self._records.get(kind, {}).get(name)
            copied: Record | None = _copy(record)
            return copied

    def put(self, kind: str, name: str, record: Record) -> None:
        """Keep the record on disk and in memory; datetimes keep their microseconds.

        Raises OSError, with nothing changed, where the disk does not take it.
        """
        with self._lock:
            self._write(kind, name, record)
            self._records.setdefault(kind, {})[name] = _copy(record)

    def update(self, kind: str, name: str, change: Callable[[Record], Record | None]) -> Record | None:
        """Replace the record by what `change` makes of it, with no other writer in between.

        Return the new record; or None, with nothing written, where there is no record or `change` returns None.
        """
        with self._lock:
            record = self.get(kind, name)
            changed = change(record) if record is not None else None
            if changed is not None:
                self.put(kind, name, changed)
            return changed

    def delete(self, kind: str, name: str) -> None:
        """Delete the record; a missing one is not an error."""
        with self._lock:
            with contextlib.suppress(FileNotFoundError):
                self._path(kind, name).unlink()
            self._records.get(kind, {}).pop(name, None)

    def names(self, kind: str) -> tuple[str, ...]:
        """Return the names of all records of a kind."""
        with self._lock:
            return tuple(self._records.get(kind, {}))

    def list(self, kind: str) -> list[Record]:
        """Return copies of all records of a kind, in the order of their first writing."""
        with self._lock:
            return [_copy(record) for record in self._records.get(kind, {}).values()]

    def _path(self, kind: str, name: str) -> Path:
        return self._folder / kind / f"{quote(name, safe='')}.json"

    def _write(self, kind: str, name: str, record: Record) -> None:
        path = self._path(kind, name)
        if not path.parent.exists():
            make_private_folder(path.parent)
        write_whole(path, json.dumps({"name": name, "record": record}, default=_encode))


def _copy(value: Any) -> Any:
    """Copy JSON's containers, the only mutable parts of a record; several times faster than deepcopy."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _encode(value: Any) -> dict[str, str]:
    if isinstance(value, datetime):
        return {"$datetime": value.astimezone(UTC).isoformat()}
    raise TypeError(f"a record holds a {type(value).__name__}, {value!r}; only JSON's types and datetimes are kept")


def _read_record(document: Any) -> tuple[str, Record]:
    document = _revive(document)
    return str(document["name"]), dict(document["record"])


def _revive(value: Any) -> Any:
    """Replace the text of each moment by the moment, all the way down."""
    if isinstance(value, dict):
        return _decode({key: _revive(item) for key, item in value.items()})
    return [_revive(item) for item in value] if isinstance(value, list) else value


def _decode(value: dict[str, Any]) -> Any:
    return datetime.fromisoformat(value["$datetime"]) if value.keys() == {"$datetime"} else value
