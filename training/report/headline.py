"""Write a report's first three lines: how good the model is, how sure that is, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from judging.intervals import find_interval
from judging.suspects import find_suspects, list_judged

from report.charts.data import Findings
from report.page import END_NEXT, NEXT

NAMED = 3
WIDE = 0.06  # an interval wider than this says little about a change of the model
GOOD = 0.99  # above this a confused pair is not what to look at next
MOST_SUSPECTS = 500


def tell_headline(found: Findings) -> str:
    """Return the three lines, or nothing without an evaluation."""
    test = found.job.evaluation.get("test") or {}
    if "accuracy" not in test:
        return ""
    advice = "; then ".join(list(advise(found, test))[:2])
    lines = {
        "How good": tell_good(found, test),
        "How sure": tell_sure(found, test),
        "What next": f"{advice[0].upper()}{advice[1:]}.",
    }
    told = {name: escape(text) for name, text in lines.items()}
    told["What next"] = f"{NEXT}{told['What next']}{END_NEXT}"
    rows = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in told.items())
    return f'<dl class="headline">{rows}</dl>'


def is_from_scratch(found: Findings) -> bool:
    """Return whether pretrained weights were wanted and there were none."""
    wanted = found.job.hyperparameters.get("pretrained") != "none"
    return wanted and (found.job.start or found.job.evaluation).get("pretrained") == "none"


def tell_good(found: Findings, test: Mapping[str, Any]) -> str:
    images = test.get("images") or 0
    scratch = "Trained from scratch, without ImageNet's weights. " if is_from_scratch(found) else ""
    again = "Trained again on training and validation images together. " if found.job.evaluation.get("refitted") else ""
    told = f"{scratch}{again}{test['accuracy']:.1%} of {images:,} test images are classified correctly."
    missed = [row["class"] for row in test.get("classes") or [] if row["support"] and not row["recall"]]
    return f"{told} No image of {name_some(missed)} was recognised." if missed else told


def tell_sure(found: Findings, test: Mapping[str, Any]) -> str:
    low, high = find_interval(test["accuracy"], test.get("images") or 0)
    told = f"Of very many such images, {low:.1%} to {high:.1%} would be right (95% confidence)."
    floor = found.file("comparison").get("floor") or {}
    if floor.get("images") and floor["lower"] <= max(floor["chance"], floor["most_frequent"]):
        return f"It is not certain that this is better than guessing. {told}"
    return told


def advise(found: Findings, test: Mapping[str, Any]) -> Iterator[str]:
    """Yield what to do, the most promising first."""
    if is_from_scratch(found):
        name = found.job.hyperparameters.get("architecture", "resnet18")
        yield f"put ImageNet's weights into the bucket (make weights ARCH={name}) and train again"
    if suspects := count_suspects(found):
        yield f"look at the {suspects} labels that look wrong" if suspects > 1 else "look at the wrong label"
    if test["accuracy"] < GOOD and (pair := find_worst(test)):
        yield f"look at {pair[1]} called {pair[2]}, which happened {pair[0]} times"
    low, high = find_interval(test["accuracy"], test.get("images") or 0)
    if high - low > WIDE:
        yield f"test on more images: {test.get('images') or 0:,} leave the accuracy uncertain"
    yield "use it"


def count_suspects(found: Findings) -> int:
    """Count the labels of all splits that look wrong; those of few training images are only ranked, and not counted."""
    judged = list_judged(found.file("predictions"), ("test", "valid"))
    labels = found.file("labels")
    return len(find_suspects(judged, MOST_SUSPECTS)) + len(labels.get("train") or () if labels.get("sure") else ())


def find_worst(test: Mapping[str, Any]) -> tuple[int, str, str] | None:
    """Return the worst confusion: (images, label, answer); one image alone is none.

    A class with no right answer comes first, then the share of the class's images that is confused.
    """
    names = [row["class"] for row in test.get("classes") or []]
    cells = [
        ((not row[label], count / sum(row)), (count, names[label], names[answer]))
        for label, row in enumerate(test.get("confusion") or [])
        for answer, count in enumerate(row)
        if label != answer and count > 1
    ]
    return max(cells)[1] if cells else None


def name_some(names: Sequence[str]) -> str:
    return " or ".join(names[:NAMED]) + (f" or {len(names) - NAMED} more classes" if len(names) > NAMED else "")
