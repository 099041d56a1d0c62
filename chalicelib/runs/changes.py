"""Say what changed between two versions of a dataset: images, classes, settings, accuracy. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

NAMED = 5
MOST_CLASSES = 5  # whose counts are told, those that changed most


@dataclass(frozen=True)
class Version:
    """What a run knows of its version of a dataset: pre-flight's report, the recipe, and the test metrics."""

    run_id: str
    report: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    test: Mapping[str, Any] = field(default_factory=dict)


def list_changes(before: Version, after: Version) -> Iterator[tuple[str, str, str]]:
    """Yield (what, before, after) of all that differs."""
    counts = count_classes(before.report), count_classes(after.report)
    if all(counts):
        totals = [sum(each.values()) for each in counts]
        yield from differing("images", *(f"{total:,}" for total in totals))
        yield from differing("classes", *(str(len(each)) for each in counts))
        yield from list_classes(*counts)
    recipes = [dict(flatten(each.recipe)) for each in (before, after)]
    for name in sorted(recipes[0].keys() | recipes[1].keys()):
        yield from differing(name, *(show(each.get(name)) for each in recipes))
    if "accuracy" in before.test and "accuracy" in after.test:
        yield "test accuracy", f"{before.test['accuracy']:.1%}", f"{after.test['accuracy']:.1%}"


def flatten(recipe: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a recipe's members by their paths, such as `ranges.learning_rate.min`."""
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def differing(what: str, before: str, after: str) -> Iterator[tuple[str, str, str]]:
    if before != after:
        yield what, before, after


def count_classes(report: Mapping[str, Any]) -> Counter[str]:
    """Count the images of each class over all splits."""
    counts: Counter[str] = Counter()
    for split in (report.get("splits") or {}).values():
        counts.update(split)
    return counts


def list_classes(before: Counter[str], after: Counter[str]) -> Iterator[tuple[str, str, str]]:
    """Yield classes that came and went, and the counts that changed most."""
    gone, new = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
    if gone or new:
        yield "only there", name_some(gone), name_some(new)
    both = before.keys() & after.keys()
    changed = sorted((label for label in both if before[label] != after[label]), key=lambda label: label)
    changed.sort(key=lambda label: -abs(after[label] - before[label]))
    for label in changed[:MOST_CLASSES]:
        yield f"images of {label}", f"{before[label]:,}", f"{after[label]:,}"
    if rest := len(changed) - MOST_CLASSES:
        yield from [("images of other classes", "", f"{rest} more changed")] if rest > 0 else []


def name_some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def show(value: Any) -> str:
    """Return a recipe's member as the recipe writes it."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def tell_changes(versions: tuple[Version, Version] | None) -> str:
    """Return what changed since the version that was live, as HTML; nothing for a dataset's first version."""
    if versions is None:
        return ""
    before, after = versions
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in list_changes(before, after)
    )
    told = f"<p>Compared with {escape(before.run_id)}, whose model was live when this one was trained.</p>"
    heads = "<tr><th>what</th><th>before</th><th>now</th></tr>"
    table = f'<div class="scroll"><table class=words><thead>{heads}</thead><tbody>{rows}</tbody></table></div>'
    return f"<h3>What changed since the last version</h3>{told}{table if rows else '<p>Nothing.</p>'}"
