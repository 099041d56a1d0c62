"""Count how two models answered the same images, and which images may be counted. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from comparing.history import Image, Seen


def sort_out(
    images: Sequence[Image], seen: Seen, shared: Collection[str], most: int
) -> tuple[list[int], dict[str, int]]:
    """Return the numbers of the images that both models may be judged on, and how many others are left out, and why.

    most: of more images an even sample is taken.
    """
    near = seen.find_near(images)
    reasons = [find_reason(image, seen, shared, is_near=each) for image, each in zip(images, near, strict=True)]
    kept = [number for number, reason in enumerate(reasons) if not reason]
    left_out = {name: reasons.count(name) for name in ("seen", "near_duplicates", "other_classes")}
    if len(kept) > most:
        left_out["beyond_limit"] = len(kept) - most
        kept = [kept[place * len(kept) // most] for place in range(most)]
    return kept, left_out


def find_reason(image: Image, seen: Seen, shared: Collection[str], *, is_near: bool = False) -> str:
    """Return why an image is left out of a comparison, or an empty text."""
    if image.hash in seen.hashes:
        return "seen"
    if is_near or image.key in seen.keys:
        return "near_duplicates"
    return "" if image.label in shared else "other_classes"


def tabulate(labels: Sequence[str], new: Sequence[str], live: Sequence[str]) -> dict[str, int]:
    """Count the images by which of two models was right."""
    pairs = [(ours == label, theirs == label) for label, ours, theirs in zip(labels, new, live, strict=True)]
    return {
        "both": pairs.count((True, True)),
        "only_new": pairs.count((True, False)),
        "only_live": pairs.count((False, True)),
        "neither": pairs.count((False, False)),
    }


def count_changed(new: Iterable[Image], live: Iterable[Image]) -> dict[str, int]:
    """Count the images of both datasets, and those whose label is another one now."""
    labels, before = group_labels(new), group_labels(live)
    common = labels.keys() & before.keys()
    return {"changed": sum(labels[digest] != before[digest] for digest in common), "compared": len(common)}


def group_labels(images: Iterable[Image]) -> Mapping[str, set[str]]:
    labels: dict[str, set[str]] = {}
    for image in images:
        labels.setdefault(image.hash, set()).add(image.label)
    return labels


def compare_classes(new: Sequence[str], live: Sequence[str]) -> dict[str, Any]:
    """List the classes that both models know, those that only the live one knows, and those that it does not know."""
    return {
        "shared": sorted(set(new) & set(live)),
        "lost": sorted(set(live) - set(new)),
        "new": sorted(set(new) - set(live)),
    }
