"""Read deliberate faults from a file at run time: what an account lacks, and what happens to its instances.

`faults.json` in the state's folder, every member of it optional:

    {"no_capacity": ["ml.g5.xlarge"],
     "no_spot_capacity": ["ml.g4dn.xlarge"],
     "quotas": {"ml.g4dn.xlarge for spot training job usage": 0},
     "interruptions": [{"job": "whippet-*", "after_seconds": 20, "times": 1}],
     "cold_start": {"idle_seconds": 300, "seconds": 8},
     "tuning_checkpoints": "appended"}

A change takes effect at once. A file that cannot be read changes nothing, and the log says why. Without the file no
such fault ever happens.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

log = logging.getLogger(__name__)


class BadFaults(ValueError):
    """The file of faults is not valid; the message says why."""


@dataclass(frozen=True)
class Interruption:
    """Takes the spot instances of the jobs whose names match `job`: `times` each, `after_seconds` after their start."""

    job: str = "*"
    after_seconds: float = 0.0
    times: int = 1


@dataclass(frozen=True)
class ColdStart:
    """After `idle_seconds` without requests, a serverless endpoint is ready `seconds` after the next request."""

    idle_seconds: float = 0.0
    seconds: float = 10.0


@dataclass(frozen=True)
class Faults:
    """The faults. Instance types in `no_capacity` cannot be had at all, those in `no_spot_capacity` not as spot.

    `quotas` are by their names in Service Quotas. `tuning_checkpoints` says whether a tuning job's training jobs share
    its CheckpointConfig.S3Uri or get their own name appended to it, which AWS documents nowhere.
    """

    no_capacity: frozenset[str] = frozenset()
    no_spot_capacity: frozenset[str] = frozenset()
    quotas: Mapping[str, int] = field(default_factory=dict)
    interruptions: tuple[Interruption, ...] = ()
    cold_start: ColdStart | None = None
    tuning_checkpoints: Literal["shared", "appended"] = "shared"

    def list_lacking(self, *, spot: bool) -> frozenset[str]:
        """Return the instance types that cannot be had."""
        return self.no_capacity | self.no_spot_capacity if spot else self.no_capacity

    def is_interrupted(self, job: str, seconds: float, before: int) -> bool:
        """Return whether to interrupt a spot job that has run for so long and was interrupted so often before."""
        return any(
            fnmatchcase(job, each.job) and seconds >= each.after_seconds and before < each.times
            for each in self.interruptions
        )


ReadFaults = Callable[[], Faults]


def parse_faults(document: Any) -> Faults:
    """Parse the faults that a document describes. Raises BadFaults."""
    try:
        parts = dict(document)
        return Faults(
            no_capacity=_read_names(parts.pop("no_capacity", [])),
            no_spot_capacity=_read_names(parts.pop("no_spot_capacity", [])),
            quotas={str(name): int(most) for name, most in parts.pop("quotas", {}).items()},
            interruptions=tuple(Interruption(**each) for each in parts.pop("interruptions", [])),
            cold_start=ColdStart(**cold) if (cold := parts.pop("cold_start", None)) else None,
            tuning_checkpoints=_read_layout(parts.pop("tuning_checkpoints", "shared")),
            **parts,
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise BadFaults(f"faults.json is not what it must be: {error}") from error


class FaultFile:
    """The faults in a file, which is read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._faults = Faults()

    def __call__(self) -> Faults:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._seen, self._faults = None, Faults()
            return self._faults
        if (seen := (status.st_mtime_ns, status.st_size)) != self._seen:
            self._seen = seen
            self._read()
        return self._faults

    def _read(self) -> None:
        try:
            self._faults = parse_faults(json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            log.warning("%s: %s", self._path, error)


def _read_layout(word: Any) -> Literal["shared", "appended"]:
    if word not in ("shared", "appended"):
        raise BadFaults(f'tuning_checkpoints must be "shared" or "appended", not {word!r}')
    return "appended" if word == "appended" else "shared"


def _read_names(names: Any) -> frozenset[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadFaults(f"instance types must be a list of names, not {names!r}")
    return frozenset(names)
