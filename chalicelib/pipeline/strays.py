"""Tell people, once, about an upload below `datasets/` that begins no run, and what to do: nothing is passed over."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from chalicelib import errors
from chalicelib.pipeline.intake import look_at_dataset
from chalicelib.runs.claims import finish_claim, release_claim, take_claim
from chalicelib.runs.identity import DATASETS, parse_dataset_key
from chalicelib.services import Services

NOTICE = "Upload Ignored"
NOTICES = "notices/"
PACKED = re.compile(r"\.(tar|tgz|gz|7z|rar|bz2|tbz2?|xz|zst|zipx)$", re.IGNORECASE)
IMAGE = re.compile(r"\.(jpe?g|jpe|jfif|png|webp|gif|bmp|tiff?|heic|heif|avif)$", re.IGNORECASE)
LITTER = re.compile(r"(\..*|thumbs\.db|desktop\.ini)$", re.IGNORECASE)


@dataclass(frozen=True)
class Stray:
    """An upload that begins no run: what is told only once of it, and the message."""

    about: str
    message: str


def describe_stray(key: str) -> Stray | None:
    """Return what is told of an upload, or None of a dataset, a recipe, a folder's marker, or litter."""
    name = key.removeprefix(DATASETS)
    if (
        not key.startswith(DATASETS)
        or parse_dataset_key(key)
        or key.endswith("/")
        or LITTER.match(name.rpartition("/")[2])
    ):
        return None
    folder = name.partition("/")[0]
    if "/" in name:
        what = f"{DATASETS}{folder}/ is a folder, and only files right below {DATASETS} begin a run."
        return Stray(f"{folder}/", f"{what} Pack it (zip -r {folder}.zip {folder}) and upload {DATASETS}{folder}.zip.")
    if PACKED.search(name):
        stem = name.partition(".")[0] or "NAME"
        return Stray(name, f"{key} is no zip. Unpack it, pack it as a zip, and upload {DATASETS}{stem}.zip.")
    if IMAGE.search(name):
        what = f"{key} is a single image, and only a zip of images in class folders begins a run."
        return Stray("images", f"{what} Pack the folder of your classes, and upload {DATASETS}NAME.zip.")
    return Stray(
        name, f"{key} is neither a dataset ({DATASETS}NAME.zip) nor a recipe ({DATASETS}NAME.json). Rename it."
    )


def look_at_upload(key: str, services: Services) -> None:
    """Look at the dataset that an upload belongs to, or tell that it belongs to none."""
    if dataset := parse_dataset_key(key):
        look_at_dataset(dataset, services)
    else:
        tell_stray(key, services)


def tell_stray(key: str, services: Services) -> bool:
    """Publish one notice about an upload that begins no run. Returns whether it was published now."""
    stray = describe_stray(key)
    if stray is None:
        return False
    marker = f"{NOTICES}{hashlib.sha256(stray.about.encode()).hexdigest()[:16]}.json"
    claim = take_claim(services.bucket, marker, services.make_id(), services.clock.now())
    if claim is None:
        return False
    detail: dict[str, Any] = {
        "event": NOTICE,
        "key": key,
        "reason": stray.message,
        "at": services.clock.now().isoformat(),
    }
    services.log.warning(stray.message, extra={"key": key})
    try:
        services.publisher.publish(NOTICE, detail)
    except errors.WhippetError:
        release_claim(services.bucket, claim, services.clock.now())
        raise
    finish_claim(services.bucket, claim, services.clock.now())
    return True
