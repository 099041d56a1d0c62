"""Define a run's identity and names, as pure values: nothing here calls AWS."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from chalicelib.errors import InvalidName
from chalicelib.settings import Settings

DATASETS = "datasets/"
MAX_NAME = 200  # bytes of a dataset's name: it is a part of S3 keys, of which S3 allows 1024 bytes
MAX_KEY = 1024  # bytes
NOT_IN_NAME = ("Cc", "Cs")  # control characters, which XML cannot hold, and halves of characters, which UTF-8 cannot
MAX_RUN_ID = 32  # a tuning job's name
MAX_ENDPOINT = 63
RUN_ID = re.compile(r"[a-z0-9](?:-*[a-z0-9]){0,31}")


@dataclass(frozen=True)
class Run:
    """The content of `run.json`: one attempt at one version of a dataset.

    `recipe` is the recipe at the beginning of the attempt, every default filled in; it is None if the file was wrong,
    and then `recipe_error` says how. `source` is the object that is copied to the run's input: {key, version, etag}.
    `cost` is added once, after the dataset was checked; `costs.estimates.estimate` builds it. Times are ISO 8601, UTC.
    """

    run_id: str
    dataset: str
    bucket: str
    key: str
    version: str | None
    etag: str
    size: int
    attempt: int
    created_at: str
    endpoint: str
    code_uri: str
    source: dict[str, str | None]
    recipe: dict[str, Any] | None = None
    recipe_etag: str | None = None
    recipe_error: str | None = None
    cost: dict[str, Any] | None = None
    format: int = 1

    @property
    def training_job(self) -> str:
        return self.name_training(1)

    def name_training(self, number: int) -> str:
        """Return the name of the final training's job, or of its second or third try on the next instance type."""
        return f"{self.run_id}-train" if number == 1 else f"{self.run_id}-{number}-train"

    @property
    def folder(self) -> str:
        """The key prefix of the run's files. It ends in `/`."""
        return f"runs/{self.run_id}/"

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.folder}"

    def list_pinned_types(self, use: str) -> tuple[str, ...]:
        """List the instance types that the cost estimate pinned for `trial`, `training` or `endpoint`, or none."""
        return tuple((self.cost or {}).get("instance_types", {}).get(use, ()))

    @property
    def order(self) -> tuple[str, str]:
        """The order of a dataset's runs: a newer run is greater."""
        return (self.created_at, self.run_id)


def find_run_of_training(job: str) -> str | None:
    """Return the run whose final training has this name, whichever try it is; None for any other job's name."""
    found = re.fullmatch(r"(.+?)(?:-[2-9])?-train", job)
    return found[1] if found else None


def slugify(name: str, length: int) -> str:
    """Reduce a name to what SageMaker allows: lower-case letters, digits, inner hyphens; never empty."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return slug[:length].strip("-") or "x"


def make_run_id(settings: Settings, dataset: str, version: str, attempt: int) -> str:
    """Return the name of an attempt at one version (or etag) of a dataset: equal for equal uploads, at most 32 long."""
    digest = _digest(settings.bucket, f"{DATASETS}{dataset}.zip", version, str(attempt))
    room = MAX_RUN_ID - len(settings.prefix) - len(digest) - 1
    return f"{settings.prefix}{slugify(dataset, room)}-{digest}"


def make_endpoint_name(settings: Settings, dataset: str) -> str:
    """Return the name of a dataset's endpoint, the same for every run of the dataset."""
    digest = _digest(settings.bucket, f"{DATASETS}{dataset}.zip")
    room = MAX_ENDPOINT - len(settings.prefix) - len(digest) - 1
    return f"{settings.prefix}{slugify(dataset, room)}-{digest}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def find_name_problem(name: str) -> str | None:
    """Return why a dataset's name cannot be served, or None if it can. This is the one rule, for every way in.

    Clients of HTTP take the names `.` and `..` out of a path, so no route could reach them.
    """
    fits = name not in ("", ".", "..") and "/" not in name
    fits = fits and not any(unicodedata.category(sign) in NOT_IN_NAME for sign in name)
    if fits and len(name.encode()) <= MAX_NAME:
        return None
    return (
        f"The name {name[:50]!r} cannot be served: give 1 to {MAX_NAME} bytes, without '/' and control characters, and "
        "neither '.' nor '..'."
    )


def check_name(name: str) -> str:
    """Return a dataset's name if it can be served. Raises InvalidName."""
    if problem := find_name_problem(name):
        raise InvalidName(problem)
    return name


def can_be_uploaded(name: str) -> bool:
    """Return whether S3 can hold a dataset of this name at all: some such names cannot be served, only removed."""
    is_text = not any(unicodedata.category(sign) == "Cs" for sign in name)
    return is_text and bool(name) and "/" not in name and len(f"{DATASETS}{name}.zip".encode()) <= MAX_KEY


def is_zip_of(key: str, dataset: str) -> bool:
    """Return whether a key is that of a dataset's zip, in small or capital letters."""
    return parse_dataset_key(key) == dataset and not key.endswith(".json")


def parse_dataset_key(key: str) -> str | None:
    """Return NAME of `datasets/NAME.zip`, in small or capital letters, or `datasets/NAME.json`; None for other keys."""
    found = re.fullmatch(r"datasets/([^/]+)\.(?:(?i:zip)|json)", key, re.DOTALL)
    return found[1] if found else None
