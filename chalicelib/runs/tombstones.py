"""Remember for a while which runs were removed, since a look in flight may write about one of them once more.

A tombstone is `removals/DIGEST`, one for each dataset: {dataset, at, runs}. A removal writes it before it deletes
anything, and the sweep clears it away once no look that began before can still be in flight.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chalicelib.aws.buckets import Bucket, to_json
from chalicelib.runs.identity import Run, make_endpoint_name
from chalicelib.settings import Settings

TOMBSTONES = "removals/"


@dataclass(frozen=True)
class Tombstone:
    """What was removed of a dataset: `entries` holds the prefixes of each removed run's keys in the list, by its id.

    A look in flight may begin a run once more after its removal: then the run has another time, and another prefix.
    """

    key: str
    dataset: str
    entries: dict[str, list[str]] = field(default_factory=dict)


def name_tombstone(settings: Settings, dataset: str) -> str:
    """Return the key of a dataset's tombstone: the digest that ends its endpoint's name, for any name would not fit."""
    return f"{TOMBSTONES}{make_endpoint_name(settings, dataset).rpartition('-')[2]}"


def read_tombstone(bucket: Bucket, key: str) -> Tombstone | None:
    stored = bucket.read(key)
    if stored is None:
        return None
    document: dict[str, Any] = stored.as_json()
    return Tombstone(key, document["dataset"], document["entries"])


def write_tombstone(bucket: Bucket, tombstone: Tombstone) -> None:
    """Write a tombstone. Its time begins again with that."""
    document = {"format": 1, "dataset": tombstone.dataset, "entries": tombstone.entries}
    bucket.write(tombstone.key, to_json(document))


def is_removed(run: Run, bucket: Bucket, settings: Settings) -> bool:
    """Return whether a run is one of a removed dataset: there is a tombstone, and the run's version is gone."""
    if bucket.describe(name_tombstone(settings, run.dataset)) is None:
        return False
    return is_version_gone(run, bucket)


def is_version_gone(run: Run, bucket: Bucket) -> bool:
    """Return whether the upload that a run is about is no longer in the bucket."""
    return bucket.describe(run.key, version=run.version) is None
