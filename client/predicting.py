"""Classify files: as many in a request as fit into one, and a larger one by way of the bucket."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from itertools import chain, count
from pathlib import Path
from typing import Any

from client.api import Api, ApiError

MOST_BYTES = 4_000_000  # of a request's images; Lambda takes hardly more
MOST_FILES = 16
OF_THE_IMAGE = (413, 415, 422)  # statuses that say nothing about the others


def classify(api: Api, model: str, files: Iterable[Path], **query: Any) -> list[dict[str, Any]]:
    """Return a result for each file, in their order. query: top, threshold and explain, as far as they are wanted."""
    return [result for batch in pack(files) for result in ask(api, model, batch, query)]


def pack(files: Iterable[Path]) -> Iterator[list[Path]]:
    """Yield the files in batches that a request can hold; one that is too large for any is alone."""
    batch: list[Path] = []
    total = 0
    for path in files:
        size = path.stat().st_size
        if batch and (len(batch) == MOST_FILES or total + size > MOST_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(path)
        total += size
    if batch:
        yield batch


def ask(api: Api, model: str, batch: list[Path], query: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a batch's results. The API refuses a request whose only image is none: that is this image's result."""
    try:
        if batch[0].stat().st_size > MOST_BYTES:
            return list(api.predict_upload(model, send(api, batch[0]), **query)["results"])
        return list(api.predict(model, batch, **query)["results"])
    except ApiError as error:
        if len(batch) > 1 or error.status not in OF_THE_IMAGE:
            raise
        return [{"error": {"code": error.code, "message": error.message}}]


def send(api: Api, path: Path) -> str:
    """Put an image into the bucket. Returns the upload's id."""
    data = path.read_bytes()
    place = api.begin_upload("image", path.name, len(data))
    api.put(place["url"], iter([data]), len(data))
    return str(place["id"])


def write_maps(folder: Path, files: Iterable[Path], results: Iterable[dict[str, Any]]) -> list[Path | None]:
    """Write the maps of what decided about the images' answers. Returns their paths, None where the model drew none."""
    written: list[Path | None] = []
    for path, result in zip(files, results, strict=True):
        found = result.get("explanation")
        target = name_map(folder, path, found["class"], written) if found else None
        if found and target:
            folder.mkdir(parents=True, exist_ok=True)
            target.write_bytes(base64.b64decode(found["image"].partition(",")[2]))
        written.append(target)
    return written


def name_map(folder: Path, path: Path, label: str, taken: list[Path | None]) -> Path:
    """Return where an image's map goes. Images of several folders may have one name: the later ones get a number."""
    name = f"{path.stem}-" + re.sub(r"[^\w.-]", "_", label)
    numbered = (folder / f"{name}-{number}.png" for number in count(2))
    return next(each for each in chain([folder / f"{name}.png"], numbered) if each not in taken)
