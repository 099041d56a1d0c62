"""Classify files: as many in a request as fit into one, and a larger one by way of the bucket."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
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


def write_map(folder: Path, path: Path, result: dict[str, Any]) -> Path | None:
    """Write the map of what decided about an image's answer. Returns its path, or None if the model drew none."""
    found = result.get("explanation")
    if not found:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    label = re.sub(r"[^\w.-]", "_", found["class"])
    target = folder / f"{path.stem}-{label}.png"
    target.write_bytes(base64.b64decode(found["image"].partition(",")[2]))
    return target
