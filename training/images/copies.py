"""Find the same image in two splits or under two labels, by hash."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Protocol

EXAMPLES = 3
PAIRS = (("valid", "train"), ("test", "train"), ("test", "valid"))
WORDS = {"valid": "validation", "test": "test", "train": "train"}


class Hashed(Protocol):
    """What is compared: the hashes and names of a split's images."""

    hashes: list[str]
    names: list[str]


def report_leaks(splits: Mapping[str, Hashed]) -> list[str]:
    """Warn of images that are in two splits: they flatter the measured quality."""
    warnings = []
    for judged, other in PAIRS:
        known = dict(zip(splits[other].hashes, splits[other].names, strict=True))
        pairs = zip(splits[judged].hashes, splits[judged].names, strict=True)
        leaked = [f"{name} = {known[digest]}" for digest, name in pairs if digest in known]
        if leaked:
            counts = f"{len(leaked)} of {len(splits[judged].hashes)} {WORDS[judged]} images are in {WORDS[other]} too"
            flatter = "the test flatters" if judged == "test" else "validation flatters"
            warnings.append(f"{counts}, so {flatter}: {list_some(leaked)}")
    return warnings


def report_contradictions(hashes: Sequence[str], labels: Sequence[str], names: Sequence[str]) -> list[str]:
    """Warn of images that have two labels: one of them is wrong."""
    by_hash: dict[str, dict[str, str]] = defaultdict(dict)
    for digest, label, name in zip(hashes, labels, names, strict=True):
        by_hash[digest].setdefault(label, name)
    twice = [" = ".join(found.values()) for found in by_hash.values() if len(found) > 1]
    if not twice:
        return []
    count = "1 image has two labels" if len(twice) == 1 else f"{len(twice)} images have two labels"
    return [f"{count}: {list_some(twice)}; keep each in the one class that is right"]


def list_some(names: Sequence[str]) -> str:
    rest = len(names) - EXAMPLES
    return ", ".join(names[:EXAMPLES]) + (f" and {rest} more" if rest > 0 else "")
