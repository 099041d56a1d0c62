"""Find out which images a live model was trained, tuned and calibrated on, and read the images of its run.

A manifest lists the hashes and perceptual keys of all splits. An older one lists the training images alone; then the
run's dataset, if it is still there, is read again as the run read it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from images.assembly import Dataset
from images.data import read_dataset
from images.decoding.rows import SMALL, Source
from images.early import find_archive, read_wishes
from images.layout import read_layout
from images.reading.labels import Wishes
from job.settings import Hyperparameters, TrainingError, read_hyperparameters
from learning.engine import Stopped
from learning.preparation import SPLITS, list_all_keys

from comparing.answers import StopAsked, open_source
from comparing.archives import Unusable
from comparing.looks import NEAR, find_near

USED = ("train", "valid")  # trained on; and chosen by, calibrated on


@dataclass(frozen=True)
class Image:
    """An image of a dataset: its file, the name of its class, its hash, its perceptual key, its split, and its look.

    An image of a live run that no split of its model holds has the split "". A look may be missing.
    """

    name: str
    label: str
    hash: str
    key: str
    split: str
    look: str = ""

    @property
    def text(self) -> str:
        """The key and the look as a manifest holds them."""
        return f"{self.key}-{self.look}"


def split_text(text: str) -> tuple[str, str]:
    """Return the key and the look that a manifest's text of an image holds: what `Image.text` joins."""
    key, _, look = text.partition("-")
    return key, look


@dataclass
class Seen:
    """The hashes, perceptual keys and looks of the images that models have used, other than for their tests.

    near: the distance of looks up to which an image counts as a copy.
    """

    hashes: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    looks: set[str] = field(default_factory=set)
    near: float = NEAR

    def add(self, images: Iterable[tuple[str, str]]) -> None:
        """Add images by hash and key; a key may be missing, or be followed by a look."""
        for digest, text in images:
            key, look = split_text(text)
            self.hashes.add(digest)
            self.keys.update([key] if key else [])
            self.looks.update([look] if look else [])

    def find_near(self, images: Sequence[Image]) -> list[bool]:
        """Return for each image whether it looks like one that was used."""
        return find_near([image.look for image in images], sorted(self.looks), self.near)


def list_images(data: Dataset, keys: Mapping[str, Sequence[str]]) -> Iterator[Image]:
    """Yield all images of a dataset. keys: by split; missing ones are empty."""
    for name in SPLITS:
        split = getattr(data, name)
        labels = [data.classes[number] for number in split.labels.tolist()]
        for *values, text in zip(split.names, labels, split.hashes, keys.get(name) or [""] * len(split), strict=True):
            key, look = split_text(text)
            yield Image(*values, key, name, look)


def find_lookalikes(images: Iterable[Image]) -> set[str]:
    """Return the keys that images of several classes have: there a key does not tell a copy."""
    labels: dict[str, set[str]] = {}
    for image in images:
        labels.setdefault(image.key, set()).add(image.label)
    return {key for key, own in labels.items() if len(own) > 1}


def read_listed(manifest: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]] | None:
    """Read the hashes and keys of each split from a manifest; None if it does not list every split."""
    hashes, keys = manifest.get("image_hashes"), manifest.get("image_keys")
    if not isinstance(hashes, dict) or not all(is_texts(hashes.get(name)) for name in SPLITS):
        return None
    keys = keys if isinstance(keys, dict) else {}
    listed = {}
    for name in SPLITS:
        own = keys.get(name)
        fits = is_texts(own) and len(own) == len(hashes[name])
        listed[name] = list(zip(hashes[name], own if fits else [""] * len(hashes[name]), strict=True))
    return listed


def is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def read_trained(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Read the hashes of the training images, which are all that an older manifest lists."""
    trained = manifest.get("training_image_hashes")
    return [(digest, "") for digest in trained] if isinstance(trained, list) and is_texts(trained) else []


def read_images(
    folder: Path | None,
    manifest: Mapping[str, Any],
    listed: Mapping[str, list[tuple[str, str]]] | None,
    scratch: Path,
    stop_asked: StopAsked,
) -> list[Image]:
    """List the images of a live run's dataset. folder: the run's `input/`. Raise Unusable if it cannot be read."""
    if folder is None:
        raise Unusable("its run's dataset is gone")
    try:
        archive, wishes = find_archive(folder), find_wishes(manifest)
        if listed is None:
            data = read_dataset(archive, SMALL, threads=1, scratch=scratch, wishes=wishes)
            return list(list_images(data, list_all_keys(data, 1)))
        with open_source(archive, wishes.name_encoding) as source:
            return list(match(source, wishes, listed, stop_asked))
    except Stopped:
        raise
    except Exception as error:
        raise Unusable(f"its run's dataset cannot be read ({type(error).__name__}: {error})") from error


def find_wishes(manifest: Mapping[str, Any]) -> Wishes:
    """Return how the live run's recipe read its dataset."""
    given = manifest.get("hyperparameters")
    try:
        chosen = read_hyperparameters(given if isinstance(given, dict) else {}, lambda _: None)
    except TrainingError:
        chosen = Hyperparameters()
    return read_wishes(chosen)


def match(
    source: Source, wishes: Wishes, listed: Mapping[str, list[tuple[str, str]]], stop_asked: StopAsked
) -> Iterator[Image]:
    """Yield the images of a zip with the splits in which a manifest lists them. No image is decoded."""
    places = {digest: (key, name) for name in reversed(SPLITS) for digest, key in listed[name]}
    for sample in read_layout(source.entries, wishes, source.read_head).samples:
        if stop_asked():
            raise Stopped
        digest = hashlib.blake2b(source.read(sample.name), digest_size=8).hexdigest()
        text, split = places.get(digest, ("", ""))
        key, look = split_text(text)
        yield Image(sample.name, sample.label, digest, key, split, look)
