"""Send a dataset: a zip as it is, a folder as a zip made on the way, in parts where the API asks for parts."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from client.api import Api, ApiError

CHUNK = 1024 * 1024
LITTER = {"Thumbs.db", "desktop.ini", ".DS_Store"}
Report = Callable[[int], None]
EXPIRED = 403
PAUSES = (1, 2, 4, 8, 15, 30, 30, 30)  # seconds before a part is sent again


def upload_dataset(api: Api, path: Path, name: str, report: Report, sleep: Callable[[float], None]) -> dict[str, Any]:
    """Upload a zip or a folder as the dataset `name`. `report` is told how many bytes were sent. Raises ApiError."""
    if path.is_file():
        return send_file(api, path, name, report, sleep)
    with tempfile.TemporaryDirectory() as folder:
        return send_file(api, zip_folder(path, Path(folder) / "dataset.zip"), name, report, sleep)


def send_file(api: Api, path: Path, name: str, report: Report, sleep: Callable[[float], None]) -> dict[str, Any]:
    size = path.stat().st_size
    upload = api.begin_upload("dataset", name, size)
    parts = upload.get("parts") or [{"number": 1, "size": size, "url": upload["url"]}]
    etags = []
    with path.open("rb") as file:
        for part in parts:
            etags.append(send_part(api, upload, part, file, report, sleep))
    return api.complete_upload(upload["complete"], etags) if "parts" in upload else upload


def send_part(
    api: Api,
    upload: dict[str, Any],
    part: dict[str, Any],
    file: BinaryIO,
    report: Report,
    sleep: Callable[[float], None],
) -> str:
    """Send the file's next bytes; again, while the connection is cut. Returns their ETag. Raises ApiError."""
    begin, url = file.tell(), part["url"]
    for pause in (*PAUSES, None):
        try:
            return api.put(url, read_chunks(file, part["size"], report), part["size"])
        except ApiError as error:
            is_old = error.status == EXPIRED and "parts" in upload
            if pause is None or not (is_old or error.status == 0 or error.status >= 500):
                raise
            report(begin - file.tell())
            file.seek(begin)
            sleep(pause)
            if is_old:
                url = api.describe_upload(upload["id"])["parts"][part["number"] - 1]["url"]
    raise AssertionError("the last try has returned or raised")


def read_chunks(file: BinaryIO, size: int, report: Report) -> Iterator[bytes]:
    """Yield the next `size` bytes of a file."""
    while size:
        chunk = file.read(min(CHUNK, size))
        if not chunk:
            raise OSError("The file became shorter while it was sent. Send it again.")
        size -= len(chunk)
        report(len(chunk))
        yield chunk


def zip_folder(folder: Path, target: Path) -> Path:
    """Pack a folder's files, without compressing images again. Raises ValueError for a folder without files."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
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
