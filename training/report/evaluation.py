"""Write a report's evaluation: by class, confusion matrix, most confused pairs, mistakes, labels that look wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from report.charts.choices import find_interval, find_mistakes, find_pairs, find_suspects, list_judged
from report.charts.curves import TYPICAL_CLASSES, draw_calibration, draw_classes
from report.charts.data import Findings
from report.charts.matrix import NUMBERED, cut_matrix, draw_matrix, pick_confused
from report.charts.threshold import TOLD, draw_threshold, trace
from report.page import figure, fold, note, paragraph, percent, table, title
from report.pictures import MapSource, PictureSource, show_pairs, show_shots

PAIRS, EXAMPLES, MISTAKES, SUSPECTS = 9, 2, 24, 24
MAPPED = 12  # of the worst mistakes, those shown with a map
MEASURES = {
    "accuracy": "accuracy",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "macro_f1": "macro F1",
}
KINDS = {
    "linear_head": "untuned baseline: a linear head on the frozen features, default settings",
    "default_hyperparameters": "untuned baseline: default hyperparameters, a third of the epochs",
}


def tell_evaluation(found: Findings, pictures: PictureSource | None, maps: MapSource | None = None) -> str:
    """Return everything about the test split."""
    test, predictions = found.job.evaluation.get("test") or {}, found.file("predictions")
    if not test:
        return note("There is no evaluation.json: the training ended before it could be judged.")
    parts = [tell_measures(found, test), tell_classes(test), tell_confusion(test)]
    judged = list_judged(predictions)
    parts.append(tell_pairs(test, judged, pictures))
    if not judged:
        return "".join(
            [*parts, note("There is no predictions.json, so single images cannot be shown."), tell_calibration(test)]
        )
    parts += [tell_mistakes(judged, predictions["classes"], pictures, maps)]
    parts += [tell_suspects(list_judged(predictions, ("test", "valid")), predictions["classes"], pictures)]
    return "".join([*parts, tell_calibration(test), tell_threshold(judged)])


def tell_measures(found: Findings, test: Mapping[str, Any]) -> str:
    """Return the test split's measures, beside those of validation and of an untuned baseline."""
    baseline = found.file("baseline")
    before = baseline.get("test") or {}
    low, high = find_interval(test.get("accuracy", 0.0), test.get("images") or 0)
    told = f"{test.get('images', 0):,} test images took no part in training or selection. "
    told += f"Of as many others, between {low:.1%} and {high:.1%} would be right (95 % confidence)."
    heads = ["measure", *(["baseline"] if before else []), "this model", *(["gain"] if before else [])]
    rows = []
    for name, shown in MEASURES.items():
        if name in test:
            gain = f"{100 * (test[name] - before[name]):+.1f} points" if name in before else ""
            rows.append(
                [
                    shown,
                    *([percent(before.get(name))] if before else []),
                    percent(test[name]),
                    *([gain] if before else []),
                ]
            )
    kind = KINDS.get(str(baseline.get("kind")), "untuned baseline")
    return paragraph(told) + table(heads, rows) + (paragraph(f"Baseline: {kind}.") if before else "")


def tell_classes(test: Mapping[str, Any]) -> str:
    """Return measures by class: the weakest drawn, all of them in a table."""
    rows = sorted(test.get("classes") or [], key=lambda row: (row["f1"], row["class"]))
    if not rows:
        return ""
    drawn = [row for row in rows if row["support"]][:TYPICAL_CLASSES]
    caption = (
        "The weakest on top. Precision: the share of right ones among those called so. Recall: of those that are so."
    )
    heads = ["class", "precision", "recall", "F1", "images"]
    body = [
        [row["class"], *(percent(row[name]) for name in ("precision", "recall", "f1")), row["support"]] for row in rows
    ]
    name = f"The {len(drawn)} weakest of {len(rows)} classes" if len(rows) > len(drawn) else "By class"
    return title(name) + figure(draw_classes(drawn), caption) + fold(f"All {len(rows)} classes", table(heads, body))


def tell_confusion(test: Mapping[str, Any]) -> str:
    """Return the confusion matrix; with many classes also an excerpt of the most confused ones."""
    confusion, classes = test.get("confusion") or [], [row["class"] for row in test.get("classes") or []]
    if not confusion or len(classes) != len(confusion):
        return ""
    caption = "Rows are labels, columns the model's answers; the deeper the colour, the larger the share of the row."
    parts = [title("Confusion matrix")]
    if len(classes) > NUMBERED and (chosen := pick_confused(confusion)):
        names = [classes[number] for number in chosen]
        cut = cut_matrix(confusion, chosen)
        parts.append(
            figure(draw_matrix(names, cut), f"The {len(chosen)} most confused of {len(classes)} classes. {caption}")
        )
        caption = f"All {len(classes)} classes; rest the pointer on a cell for its count."
    return "".join([*parts, figure(draw_matrix(classes, confusion), caption)])


def tell_pairs(test: Mapping[str, Any], judged: Sequence[Any], pictures: PictureSource | None) -> str:
    classes = [row["class"] for row in test.get("classes") or []]
    pairs = find_pairs(test.get("confusion") or [], judged, PAIRS, EXAMPLES)
    body = show_pairs(pairs, classes, pictures) if pairs else paragraph("No image was assigned to another class.")
    return title("Most confused pairs") + body


def tell_mistakes(
    judged: Sequence[Any], classes: Sequence[str], pictures: PictureSource | None, maps: MapSource | None = None
) -> str:
    found = find_mistakes(judged, MISTAKES)
    wrong = sum(image.predicted != image.label for image in judged)
    if not found:
        return title("Worst mistakes") + paragraph("There are none.")
    told = f"The {len(found)} of {wrong} wrong answers that were given with most confidence."
    shown = show_shots(found[:MAPPED], classes, pictures, maps) + show_shots(found[MAPPED:], classes, pictures)
    if maps:
        told += " Bright in the second image is what spoke for the answer."
    return title("Worst mistakes") + paragraph(told) + shown


def tell_suspects(judged: Sequence[Any], classes: Sequence[str], pictures: PictureSource | None) -> str:
    found = find_suspects(judged, SUSPECTS)
    told = (
        "Images of validation and test that look so much like another class, and so little like their label, that the "
    )
    told += "label may be wrong (confident learning). Look at them before anything else: a wrong label costs twice."
    if not found:
        return title("Labels that look wrong") + paragraph("No label of validation and test looks wrong.")
    return title("Labels that look wrong") + paragraph(told) + show_shots(found, classes, pictures)


def tell_calibration(test: Mapping[str, Any]) -> str:
    """Return whether confidence can be trusted."""
    calibration = {"ece": 0.0, "temperature": 1.0, "ece_at_temperature": 0.0} | (test.get("calibration") or {})
    if not calibration.get("bins"):
        return ""
    distance, temperature = calibration["ece_at_temperature"], calibration["temperature"]
    caption = f"Points on the line: the model is as often right as it says. Mean distance {distance:.1%}."
    if temperature != 1.0:
        caption += (
            f" The endpoint divides logits by {temperature:.2f}; without that it would be {calibration['ece']:.1%}."
        )
    return title("Can its confidence be trusted?") + figure(draw_calibration(calibration["bins"]), caption)


def tell_threshold(judged: Sequence[Any]) -> str:
    """Return what is left, and how much of it is right, if only sure answers are taken."""
    caption = "The answers whose probability reaches the threshold: how many images get one, and how many are right."
    rows = [
        [f"{each.threshold:g}", percent(each.share), percent(each.accuracy), len(judged) - each.answers]
        for each in trace(judged, TOLD)
    ]
    heads = ["?threshold=", "images that get an answer", "of those, right", "left to a person"]
    return title("What a threshold buys") + figure(draw_threshold(trace(judged)), caption) + table(heads, rows)
