"""Write what the final training compared: its candidates with each other, and the one that ships with the live one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from report.charts.data import Findings
from report.page import note, paragraph, percent, table, title

WORDS = {
    "final": "this training's weights",
    "head": "the fitted head that it began with",
    "blend": "a blend of the two",
    "trial": "the best trial's model",
}
TESTS = {"new": "the test images of this dataset", "live": "the live model's own test images, labelled as then"}
REASONS = {
    "seen": "seen by one of the models",
    "near_duplicates": "like an image that one of them has seen",
    "other_classes": "of a class that only one of them knows",
    "unreadable": "not readable",
    "beyond_limit": "beyond the number that is compared",
}
NAMED = 8


def tell_comparison(found: Findings) -> str:
    """Return the candidates, what a model must at least reach, and the comparison with the live model."""
    told = found.file("comparison")
    if not told:
        return note("There is no comparison.json: the training ended before it could compare anything.")
    parts = [tell_candidates(told), tell_refit(told.get("refit")), tell_floor(told.get("floor") or {})]
    parts += [warn(f"Not compared: {problem}.") for problem in told.get("problems") or []]
    return "".join([*parts, title("The live model"), tell_live(told.get("live"))])


def tell_candidates(told: Mapping[str, Any]) -> str:
    """Return all candidates in a table, with the one that ships marked."""
    rows, marked = [], None
    for number, each in enumerate(told.get("candidates") or []):
        marked = number if each["candidate"] == told.get("ships") else marked
        valid, test = each["valid"], each["test"]
        shares = (valid["objective"], valid["standard_error"], valid["accuracy"], test["accuracy"])
        measures = [percent(share) for share in shares]
        rows.append([name_candidate(each), each.get("job"), *measures])
    heads = ["model", "job", "objective", "± error", "validation accuracy", "test accuracy"]
    ships = next((name_candidate(each) for number, each in enumerate(told["candidates"]) if number == marked), None)
    lead = f"What ships: {ships}. " if ships else ""
    lead += "All answered the same images. The best by the objective on validation ships; the test chooses nothing."
    return paragraph(lead) + table(heads, rows, numbers=4, marked=marked)


def tell_refit(refit: Mapping[str, Any] | None) -> str:
    """Say how what ships was trained again, or why it was not; nothing where the recipe does not ask for it."""
    if not refit:
        return ""
    if not refit["done"]:
        return warn(f"It was not trained again on training and validation images together: {refit['why']}.")
    told = f"It was then trained again on all {refit['images']:,} training and validation images, for "
    told += f"{refit['epochs']} epochs, and this is what ships: of {refit['test']['images']:,} test images "
    told += (
        f"{refit['test']['correct']:,} are right, {refit['before']['correct']:,} before. Everything about validation, "
    )
    told += "and what was set by it, is from before: it has no validation images any more."
    return paragraph(told)


def name_candidate(each: Mapping[str, Any]) -> str:
    name = WORDS.get(each["candidate"], str(each["candidate"]))
    return f"{name}, {each['alpha']:.0%} fine-tuned" if each.get("alpha") is not None else name


def tell_floor(floor: Mapping[str, Any]) -> str:
    """Say whether the model that ships is certainly better than guessing."""
    if not floor.get("images"):
        return ""
    least = max(floor["chance"], floor["most_frequent"])
    told = f"Of {floor['images']:,} test images {floor['correct']:,} are right, {floor['accuracy']:.1%}: at least "
    told += f"{floor['lower']:.1%} with 95% confidence. Guessing among {floor['classes']} classes gives "
    told += f"{floor['chance']:.1%}, always answering the most frequent one {floor['most_frequent']:.1%}."
    if floor["lower"] > least:
        return paragraph(told)
    return warn(f"It is not certain that this model is better than guessing. {told}")


def tell_live(live: Mapping[str, Any] | None) -> str:
    """Return how the model that ships and the live one answered the same images."""
    if live is None:
        return paragraph("No model was live when this training began.")
    parts = [paragraph(f"Compared with the model of {live.get('run') or 'an unknown run'}.")]
    parts += [warn(live["problem"])] if live.get("problem") else []
    parts += [paragraph(text) for text in (tell_classes(live.get("classes") or {}), tell_labels(live)) if text]
    tests = live.get("tests") or []
    if tests:
        heads = ["images", "compared", "both right", "only the new", "only the live", "neither", "new − live"]
        parts.append(table(heads, [tell_test(test) for test in tests]))
        parts += [paragraph(text) for text in map(tell_left_out, tests) if text]
    return "".join(parts)


def tell_test(test: Mapping[str, Any]) -> list[Any]:
    images = test["images"]
    gain = f"{100 * (test['only_new'] - test['only_live']) / images:+.1f} points" if images else ""
    counts = [test[name] for name in ("both", "only_new", "only_live", "neither")]
    return [TESTS.get(test["name"], test["name"]), images, *counts, gain]


def tell_left_out(test: Mapping[str, Any]) -> str:
    """Return how many images were not compared, and why."""
    counts = [f"{count:,} {REASONS.get(name, name)}" for name, count in test["left_out"].items() if count]
    return f"Left out of {TESTS.get(test['name'], test['name'])}: {', '.join(counts)}." if counts else ""


def tell_classes(classes: Mapping[str, Sequence[str]]) -> str:
    told = {"lost": "Classes that only the live model knows", "new": "Classes that it does not know"}
    parts = [f"{words}: {name_some(classes[name])}." for name, words in told.items() if classes.get(name)]
    return " ".join(parts)


def name_some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def tell_labels(live: Mapping[str, Any]) -> str:
    counts = live.get("labels_changed") or {}
    if not counts.get("changed"):
        return ""
    return f"Of {counts['compared']:,} images that both datasets hold, {counts['changed']:,} have another label now."


def warn(text: str) -> str:
    return f'<p class="note warn">{escape(text)}</p>'
