"""Choose the images of a dataset that the demo asks the model about."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PICTURES = 3
TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}


@dataclass(frozen=True)
class Picture:
    """An image of a dataset's test split."""

    name: str
    true_class: str
    body: bytes

    @property
    def content_type(self) -> str:
        return TYPES[PurePosixPath(self.name).suffix.lower()]


def choose_pictures(dataset: Path, count: int = PICTURES) -> list[Picture]:
    """Choose images of the test split, each of another class, spread over the classes; of any split without a test."""
    classes: dict[str, str] = {}
    with zipfile.ZipFile(dataset) as archive:
        names = sorted(name for name in archive.namelist() if is_picture(name))
        tests = [name for name in names if re.search(r"(^|/)test(ing)?/", name, re.IGNORECASE)]
        for name in tests or names:
            classes.setdefault(find_class(name, in_split=bool(tests)), name)
        labels = sorted(classes)
        chosen = [labels[number * len(labels) // count] for number in range(count)] if len(labels) >= count else labels
        return [Picture(classes[label], label, archive.read(classes[label])) for label in chosen]


def is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in TYPES and not path.name.startswith(".") and "__MACOSX" not in path.parts


def find_class(name: str, *, in_split: bool) -> str:
    """Return the class of an image: the folder below its split, or the folder that holds it."""
    if in_split and (match := re.search(r"(?:^|/)test(?:ing)?/([^/]+)/", name, re.IGNORECASE)):
        return match[1]
    return PurePosixPath(name).parent.name
