"""Send a dataset: a zip as it is, a folder as a zip made on the way, in parts where the API asks for parts."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from client.api import Api, ApiError
from client.resuming import Memory, mark_file, mark_folder, mark_upload

CHUNK = 1024 * 1024
LITTER = {"Thumbs.db", "desktop.ini", ".DS_Store"}
EXPIRED, GONE = 403, 404
PAUSES = (1, 2, 4, 8, 15, 30, 30, 30)  # seconds before a part is sent again


class Watcher(Protocol):
    """Who is told how far an upload is."""

    def begin(self, size: int, arrived: int) -> None:
        """Be told the bytes in all, and those that arrived before."""

    def add(self, count: int) -> None:
        """Be told of bytes that were sent; fewer than none where they are sent again."""


@dataclass
class Upload:
    """A dataset on its way. `arrived` bytes are in the bucket for good; `is_kept` where a later process can go on."""

    api: Api
    name: str
    memory: Memory
    watcher: Watcher
    sleep: Callable[[float], None]
    size: int = 0
    arrived: int = 0
    is_kept: bool = False

    def send(self, path: Path) -> dict[str, Any]:
        """Upload a zip or a folder, from where an earlier process left it. Raises ApiError."""
        if path.is_file():
            return self.send_file(path, mark_file(path))
        with tempfile.TemporaryDirectory() as folder:
            packed = zip_folder(path, Path(folder) / "dataset.zip")
            return self.send_file(packed, mark_folder(path, list_files(path)))

    def send_file(self, path: Path, content: str) -> dict[str, Any]:
        self.size, mark = path.stat().st_size, mark_upload(self.api.url, self.name, content)
        place = self.recall(mark) or self.begin(mark)
        parts = place.get("parts") or [{"number": 1, "size": self.size, "url": place["url"]}]
        self.is_kept = "parts" in place
        self.arrived = sum(part["size"] for part in parts if part.get("etag"))
        self.watcher.begin(self.size, self.arrived)
        with path.open("rb") as file:
            etags = [self.send_part(place, part, file) for part in parts]
        if not self.is_kept:
            return place
        told = self.api.complete_upload(place["complete"], etags)
        self.memory.forget(mark)
        return told

    def recall(self, mark: str) -> dict[str, Any] | None:
        """Return where an upload goes on, as the app tells it; None if there is nothing to go on with."""
        id = self.memory.recall(mark)
        try:
            place = self.api.describe_upload(id) if id else None
        except ApiError as error:
            if error.status != GONE:
                raise
            place = None
        if place and sum(part["size"] for part in place["parts"]) == self.size:
            return place
        self.memory.forget(mark)
        return None

    def begin(self, mark: str) -> dict[str, Any]:
        place = self.api.begin_upload("dataset", self.name, self.size)
        if "parts" in place:
            self.memory.keep(mark, place["id"], self.name)
        return place

    def send_part(self, place: dict[str, Any], part: dict[str, Any], file: BinaryIO) -> str:
        """Send the file's next bytes; again, while the connection is cut. Returns their ETag. Raises ApiError."""
        begin, url = file.tell(), part.get("url", "")
        if part.get("etag"):
            file.seek(part["size"], os.SEEK_CUR)
            return str(part["etag"])
        for pause in (*PAUSES, None):
            try:
                etag = self.api.put(url, read_chunks(file, part["size"], self.watcher), part["size"])
                self.arrived += part["size"]
                return etag
            except ApiError as error:
                is_old = error.status == EXPIRED and "parts" in place
                if pause is None or not (is_old or error.status == 0 or error.status >= 500):
                    raise
                self.watcher.add(begin - file.tell())
                file.seek(begin)
                self.sleep(pause)
                if is_old:
                    url = self.api.describe_upload(place["id"])["parts"][part["number"] - 1].get("url", url)
        raise AssertionError("the last try has returned or raised")


def read_chunks(file: BinaryIO, size: int, watcher: Watcher) -> Iterator[bytes]:
    """Yield the next `size` bytes of a file."""
    while size:
        chunk = file.read(min(CHUNK, size))
        if not chunk:
            raise OSError("The file became shorter while it was sent. Send it again.")
        size -= len(chunk)
        watcher.add(len(chunk))
        yield chunk


def zip_folder(folder: Path, target: Path) -> Path:
    """Pack a folder's files, without compressing images again. Raises ValueError for a folder without files.

    The same folder makes the same bytes, so that an upload of it can go on.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
        for path in list_files(folder):
            archive.write(path, path.relative_to(folder).as_posix())
        if not archive.namelist():
            raise ValueError(f"{folder} holds no files.")
    return target


def list_files(folder: Path) -> Iterator[Path]:
    """Yield a folder's files in order, without hidden ones and litter; links are not followed."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root) / name for name in sorted(names) if not name.startswith(".") and name not in LITTER)
